"""The OpenAPI document and the pages: they tell of everything that is served, and of nothing else."""

import re
from pathlib import Path

import pytest

from shared.jobs.catalog import catalog

CONTRACT = """
GET /v1/kinds | GET /v1/kinds/{kind} | POST /v1/jobs | GET /v1/jobs | GET /v1/jobs/{job_id}
GET /v1/jobs/{job_id}/events | GET /v1/jobs/{job_id}/log | POST /v1/jobs/{job_id}/cancel | POST /v1/jobs/{job_id}/retry
DELETE /v1/jobs/{job_id} | GET /v1/jobs/{job_id}/artifacts | GET /v1/jobs/{job_id}/artifacts/{artifact}
POST /v1/files | GET /v1/files/{sha256}
POST /v1/sweeps | GET /v1/sweeps | GET /v1/sweeps/{sweep_id} | POST /v1/sweeps/{sweep_id}/cancel | GET /v1/me
GET /v1/queues | GET /healthz | GET /readyz | GET /metrics | GET /openapi.json | GET /docs
"""
"""Every row of the contract."""
ROWS = {row.strip() for row in CONTRACT.replace("\n", "|").split("|") if row.strip()}
GUIDE = Path(__file__).parents[4] / "docs" / "api.md"


@pytest.fixture
def document(api) -> dict:
    return api.get("/openapi.json").json


def described(document) -> set[str]:
    return {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}


def served(app) -> set[str]:
    """What the URL map serves, HEAD aside."""
    rules = [
        (rule.rule.replace("<", "{").replace(">", "}"), rule.methods - {"HEAD"}) for rule in app.url_map.iter_rules()
    ]
    return {f"{method} {path}" for path, methods in rules for method in methods}


def test_every_row_of_the_contract_is_served(app):
    assert ROWS - served(app) == set()


def test_every_route_is_described_and_every_description_is_served(app, document):
    assert described(document) == served(app)


def test_every_route_stands_in_the_guide(app):
    text = re.sub(r"<[^>]+>", "", GUIDE.read_text())
    missing = {row for row in served(app) if f"`{row}`" not in text}
    assert missing == set()


def test_every_problem_stands_in_the_guide():
    from services.gateway.problems import PROBLEMS

    text = GUIDE.read_text()
    assert {name for name in PROBLEMS if f"`{name}`" not in text} == set()


@pytest.mark.settings(redteam=True)
def test_the_submit_body_is_one_of_the_kinds_by_its_discriminator(document):
    schema = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["discriminator"]["propertyName"] == "kind"
    assert set(schema["discriminator"]["mapping"]) == set(catalog())
    assert {option["$ref"] for option in schema["oneOf"]} == set(schema["discriminator"]["mapping"].values())


def test_every_reference_of_the_document_leads_somewhere(document):
    schemas = document["components"]["schemas"]
    used = set(re.findall(r"#/components/schemas/([\w.-]+)", str(document)))
    assert used - set(schemas) == set()


@pytest.mark.parametrize(
    ("is_required", "mode"),
    [
        pytest.param(False, "loopback", id="loopback"),
        pytest.param(True, "token", id="token", marks=pytest.mark.settings(auth="token", admin_token="t")),
    ],
)
def test_the_document_says_whether_a_token_is_required(api, is_required, mode):
    document = api.get("/openapi.json", headers={"Authorization": "Bearer t"} if mode == "token" else {}).json
    assert ({} not in document["security"]) is is_required
    assert document["paths"]["/healthz"]["get"]["security"] == []


@pytest.mark.settings(redteam=True)
def test_a_kind_is_shown_with_the_schemas_that_validate_it(api):
    listed = {kind["kind"]: kind for kind in api.get("/v1/kinds").json["items"]}
    assert set(listed) == set(catalog())
    one = api.get("/v1/kinds/test.walk").json
    assert one == listed["test.walk"]
    assert one["params_schema"] == catalog()["test.walk"].params_schema()
    assert (one["method"], one["pool"], one["version"]) == ("test", "test", 1)


@pytest.mark.parametrize("kind", ["test.nope", "nope", "Test.walk", "test.walk.x"])
def test_an_unknown_kind_is_not_found(api, kind):
    assert api.get(f"/v1/kinds/{kind}").status_code == 404


@pytest.mark.settings(redteam=True)
def test_the_page_for_people_shows_every_call_and_kind(api, parts):
    text = api.get("/docs").text
    assert all(operation.path in text for operation in parts.operations)
    assert all(kind in text for kind in catalog())
