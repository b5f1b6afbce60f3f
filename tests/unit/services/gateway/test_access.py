"""Who may do what: tokens, scopes, owners, hosts and origins."""

import pytest

from services.gateway.auth import trusts_loopback
from shared.jobs.tokens import TOKEN_PREFIX, Scope, Tokens
from shared.settings import Settings

ADMIN_TOKEN = "the-operators-own"
NOOP = {"kind": "test.noop", "params": {}}
token_mode = pytest.mark.settings(auth="token", admin_token=ADMIN_TOKEN)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def token(parts):
    """A token of an owner with these scopes."""

    def make(owner: str, *scopes: str, expires_days: float | None = None) -> dict[str, str]:
        _, secret = Tokens(parts.store).create("test", owner, [Scope(scope) for scope in scopes], expires_days)
        return bearer(secret)

    return make


# Every guarded route, by the scope it needs. Whoever lacks the scope is refused whatever the rest of the request.
ID = "01M86AYJQV000N6W7J0SFJCABF"
ROUTES = {
    "jobs:read": [
        ("GET", "/v1/kinds"), ("GET", "/v1/kinds/test.noop"), ("GET", "/v1/jobs"), ("GET", f"/v1/jobs/{ID}"),
        ("GET", f"/v1/jobs/{ID}/events"), ("GET", f"/v1/jobs/{ID}/log"), ("GET", f"/v1/jobs/{ID}/artifacts"),
        ("GET", f"/v1/jobs/{ID}/artifacts/x"), ("GET", f"/v1/files/{'0' * 64}"), ("GET", "/v1/sweeps"),
        ("GET", f"/v1/sweeps/{ID}"), ("GET", "/v1/queues"),
    ],
    "jobs:write": [
        ("POST", "/v1/jobs"), ("POST", f"/v1/jobs/{ID}/cancel"), ("POST", f"/v1/jobs/{ID}/retry"),
        ("DELETE", f"/v1/jobs/{ID}"), ("POST", "/v1/files"), ("POST", "/v1/sweeps"),
        ("POST", f"/v1/sweeps/{ID}/cancel"),
    ],
    "admin": [
        ("POST", "/v1/tokens"), ("GET", "/v1/tokens"), ("DELETE", "/v1/tokens/0123456789abcdef"),
        ("GET", "/v1/redteam/allowed"), ("PUT", "/v1/redteam/allowed/x"), ("DELETE", "/v1/redteam/allowed/x"),
        ("GET", "/v1/redteam/audit"), ("GET", "/v1/redteam/audit/verify"), ("POST", "/v1/gc"), ("POST", "/v1/reindex"),
    ],
}  # fmt: skip
ANY_TOKEN = [("GET", "/v1/me"), ("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/problems/quota")]
NO_TOKEN = [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")]
ROWS = [pytest.param(method, path, scope, id=f"{method} {path}") for scope in ROUTES for method, path in ROUTES[scope]]


@token_mode
@pytest.mark.parametrize(("method", "path", "scope"), ROWS)
def test_a_route_is_for_holders_of_its_scope(api, token, method, path, scope):
    others = [one for one in Scope if one != scope]
    assert api.open(path, method=method).status_code == 401
    refused = api.open(path, method=method, headers=token("ann", *others))
    assert refused.status_code == 403
    assert scope in refused.json["detail"]
    admitted = api.open(path, method=method, headers=token("ann", scope))
    assert admitted.status_code not in (401, 403)
    assert admitted.status_code < 500


@token_mode
@pytest.mark.parametrize(("method", "path"), ANY_TOKEN)
def test_what_any_holder_may_see_still_needs_a_token(api, token, method, path):
    assert api.open(path, method=method).status_code == 401
    assert api.open(path, method=method, headers=token("ann", "jobs:read")).status_code == 200


@token_mode
@pytest.mark.parametrize(("method", "path"), NO_TOKEN)
def test_what_watches_the_process_needs_no_token(api, method, path):
    assert api.open(path, method=method).status_code == 200


def test_the_tables_of_this_file_hold_every_route(parts):
    listed = [*NO_TOKEN, *ANY_TOKEN, *(row for rows in ROUTES.values() for row in rows)]
    assert len(listed) == len(parts.operations)


@token_mode
@pytest.mark.parametrize(
    ("who", "may"),
    [
        pytest.param(("ann", "jobs:read", "jobs:write"), True, id="the owner"),
        pytest.param(("ben", "jobs:read", "jobs:write"), False, id="another"),
        pytest.param(("ben", "jobs:read", "jobs:write", "admin"), True, id="an admin"),
    ],
)
@pytest.mark.parametrize("verb", ["cancel", "retry", "delete", "cancel the sweep"])
def test_only_the_owner_and_admins_change_a_job(api, token, worker, who, may, verb):
    owner = token("ann", "jobs:write")
    if verb == "cancel the sweep":
        sweep = api.post("/v1/sweeps", json={"kind": "test.noop", "grid": {"size": [1]}}, headers=owner).json["id"]
        answer = api.post(f"/v1/sweeps/{sweep}/cancel", headers=token(*who))
    else:
        job = api.post("/v1/jobs", json=NOOP, headers=owner).json["id"]
        if verb != "cancel":
            worker.fail(worker.claim(job))
        path = f"/v1/jobs/{job}" + ("" if verb == "delete" else f"/{verb}")
        answer = api.open(path, method="DELETE" if verb == "delete" else "POST", headers=token(*who))
        assert (
            api.get(f"/v1/jobs/{job}", headers=token("ben", "jobs:read")).status_code == 404
            or verb != "delete"
            or not may
        )
    assert answer.status_code in ((202, 204) if may else (403,))


@token_mode
def test_a_job_belongs_to_whose_token_submitted_it(api, token):
    ann, ben = token("ann", "jobs:read", "jobs:write"), token("ben", "jobs:read", "jobs:write")
    job = api.post("/v1/jobs", json=NOOP, headers=ann).json
    assert job["owner"] == "ann"
    mine = {"owner": "me"}
    assert len(api.get("/v1/jobs", query_string=mine, headers=ann).json["items"]) == 1
    assert api.get("/v1/jobs", query_string=mine, headers=ben).json["items"] == []
    assert api.get(f"/v1/jobs/{job['id']}", headers=ben).status_code == 200  # everybody may look


@token_mode
def test_idempotency_keys_are_each_callers_own(api, token):
    answers = [
        api.post(
            "/v1/jobs", json={**NOOP, "name": owner}, headers={**token(owner, "jobs:write"), "Idempotency-Key": "k"}
        )
        for owner in ("ann", "ben")
    ]
    assert [answer.status_code for answer in answers] == [202, 202]


# Tokens ---------------------------------------------------------------------------------------------------------------


@token_mode
def test_a_token_is_shown_once_works_and_ends_when_it_is_revoked(api, parts):
    admin = bearer(ADMIN_TOKEN)
    body = {"name": "laptop", "owner": "ann", "scopes": ["jobs:read"]}
    made = api.post("/v1/tokens", json=body, headers=admin).json
    assert made["token"].startswith(TOKEN_PREFIX)
    assert api.get("/v1/me", headers=bearer(made["token"])).json == {"owner": "ann", "scopes": ["jobs:read"]}
    (listed,) = api.get("/v1/tokens", headers=admin).json["items"]
    assert "token" not in listed
    stored = "".join(str(parts.store.redis.hgetall(key)) for key in parts.store.redis.keys("tf:token*"))
    assert made["token"] not in stored
    assert api.delete(f"/v1/tokens/{made['id']}", headers=admin).status_code == 204
    assert api.get("/v1/me", headers=bearer(made["token"])).status_code == 401


@token_mode
def test_a_token_past_its_days_is_refused(api, token):
    assert api.get("/v1/me", headers=token("ann", "jobs:read", expires_days=1e-9)).status_code == 401


@pytest.mark.parametrize("header", [
    "Bearer wrong", "Bearer", "Bearer ", "Basic YTpi", "nonsense", "",
    f"Bearer {TOKEN_PREFIX}{'A' * 43}", "Bearer \xff",
])  # fmt: skip
@pytest.mark.parametrize("mode", [pytest.param("token", marks=token_mode), "loopback"])
def test_a_token_where_given_always_counts(api, header, mode):
    answer = api.get("/v1/me", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("body", [
    {}, {"name": "", "owner": "ann", "scopes": ["admin"]}, {"name": "x", "owner": "a b", "scopes": ["admin"]},
    {"name": "x", "owner": "ann", "scopes": []}, {"name": "x", "owner": "ann", "scopes": ["root"]},
    {"name": "x", "owner": "ann", "scopes": ["admin"], "expires_days": 0},
])  # fmt: skip
def test_an_odd_token_is_not_made(api, body):
    assert api.post("/v1/tokens", json=body).status_code == 422
    assert api.get("/v1/tokens").json["items"] == []


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        pytest.param("loopback", 403, id="on loopback only `up --redteam` grants it"),
        pytest.param("loopback, redteam", 201, id="after `up --redteam`", marks=pytest.mark.settings(redteam=True)),
        pytest.param("token", 201, id="elsewhere an admin grants it", marks=token_mode),
    ],
)
def test_the_redteam_scope_is_granted_by_those_who_may(api, mode, status):
    headers = bearer(ADMIN_TOKEN) if mode == "token" else {}
    body = {"name": "x", "owner": "ann", "scopes": ["redteam"]}
    assert api.post("/v1/tokens", json=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("scopes", "mode"),
    [
        pytest.param(set(Scope) - {Scope.REDTEAM, Scope.REDTEAM_REVEAL}, "local", id="without a token"),
        pytest.param(set(Scope), "local", id="after `up --redteam`", marks=pytest.mark.settings(redteam=True)),
        pytest.param(
            set(Scope) - {Scope.REDTEAM, Scope.REDTEAM_REVEAL}, "admin", id="operator's token", marks=token_mode
        ),
    ],
)
def test_the_callers_without_a_made_token_have_their_scopes(api, scopes, mode):
    answer = api.get("/v1/me", headers=bearer(ADMIN_TOKEN) if mode == "admin" else {})
    assert answer.json == {"owner": mode, "scopes": sorted(scopes)}


# Hosts and origins ----------------------------------------------------------------------------------------------------


@pytest.mark.settings(hosts="tenfold.lab, other.lab")
@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1:8000", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:8000", 200), ("[::1]", 200),
    ("tenfold.lab", 200), ("other.lab:80", 200), ("evil.example", 403),
    ("127.0.0.1.evil.example", 403), ("localhost:x:y", 403),
])  # fmt: skip
def test_on_loopback_the_host_must_be_this_gateways(api, host, status):
    assert api.get("/v1/me", headers={"Host": host}).status_code == status


@pytest.mark.settings(hosts="tenfold.lab")
@pytest.mark.parametrize(("origin", "status"), [
    ("http://localhost", 200), ("https://tenfold.lab", 200), ("http://evil.example", 403), ("null", 403),
    ("http://localhost:8050", 403), ("http://[", 403), ("", 403), ("localhost", 403),
])  # fmt: skip
def test_a_foreign_origin_is_refused(api, origin, status):
    assert api.get("/v1/me", headers={"Origin": origin, "Host": "localhost"}).status_code == status


@token_mode
def test_a_foreign_origin_is_refused_with_a_token_too(api):
    headers = {**bearer(ADMIN_TOKEN), "Origin": "http://evil.example"}
    assert api.get("/v1/me", headers=headers).status_code == 403


def test_a_caller_from_another_machine_needs_a_token_whatever_the_mode(api):
    assert api.get("/v1/me", environ_base={"REMOTE_ADDR": "10.0.0.7"}).status_code == 401


@pytest.mark.parametrize(("settings", "trusts"), [
    ({}, True), ({"host": "localhost"}, True), ({"host": "::1"}, True), ({"host": "0.0.0.0"}, False),
    ({"host": "10.0.0.1"}, False), ({"auth": "token"}, False),
])  # fmt: skip
def test_a_gateway_that_listens_elsewhere_asks_for_tokens(settings, trusts):
    assert trusts_loopback(Settings(**settings)) is trusts
