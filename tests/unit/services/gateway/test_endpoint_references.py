"""A model behind an endpoint is looked up at submit; its secret is the workers' to find."""

import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from shared.settings import Settings


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    file = tmp_path / "endpoints.json"
    entries = {"lab": {"base_url": "http://127.0.0.1:1", "secret": "not-here"}, "cloud": {"base_url": "http://a"}}
    file.write_text(json.dumps(entries))
    return Settings(redis_url=redis_url, data=tmp_path / "data", endpoints=file)


def submitted(api: FlaskClient, source: str) -> tuple[int, dict]:
    answer = api.post("/v1/jobs", json={"kind": "test.walk", "params": {"steps": 1, "source": source}})
    return answer.status_code, answer.json


def test_a_known_endpoint_is_taken_whether_or_not_its_secret_is_there(api: FlaskClient) -> None:
    assert submitted(api, "endpoint:lab/some-model")[0] == 202


def test_an_unknown_endpoint_is_refused_with_the_known_names(api: FlaskClient) -> None:
    status, problem = submitted(api, "endpoint:attic/some-model")
    assert status == 422
    assert problem["errors"][0]["loc"] == ["body", "params", "source"]
    assert problem["errors"][0]["msg"] == "there is no endpoint attic; TENFOLD_ENDPOINTS has: cloud, lab"


def test_a_file_that_can_not_be_read_refuses_every_endpoint(api: FlaskClient, settings: Settings) -> None:
    assert settings.endpoints is not None
    settings.endpoints.write_text('{"lab": {"base_url": "http://a", "api_key": "sk-123"}}')
    status, problem = submitted(api, "endpoint:lab/some-model")
    assert status == 422
    assert problem["errors"][0]["msg"].startswith(
        "TENFOLD_ENDPOINTS (endpoints.json) can't be read: lab.api_key: Extra"
    )
    assert "sk-123" not in json.dumps(problem)
