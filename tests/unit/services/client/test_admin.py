from tests.unit.services.api_server import Answer


def test_a_token_is_made_with_its_scopes_and_shown_once(server, tenfold):
    server.on("POST", "/v1/tokens", Answer({"id": "T", "token": "tf_secret", "scopes": ["jobs:read"]}, 201))
    made = tenfold.admin.create_token("ci", "ada", ["jobs:read"], expires_days=30)
    assert made.token == "tf_secret"
    assert server.asked[0].json == {"name": "ci", "owner": "ada", "scopes": ["jobs:read"], "expires_days": 30}


def test_tokens_are_listed_and_revoked(server, tenfold):
    server.on("GET", "/v1/tokens", {"items": [{"id": "T", "name": "ci", "owner": "ada", "scopes": []}]})
    server.on("DELETE", "/v1/tokens/T", Answer(status=204))
    assert tenfold.admin.tokens()[0].token is None
    tenfold.admin.revoke_token("T")
    assert server.asked[-1].method == "DELETE"


def test_the_red_team_list_is_kept(server, tenfold):
    model = {"name": "tiny", "ref": "builtin:colours", "added_by": "ada"}
    server.on("PUT", "/v1/redteam/allowed/tiny", model)
    server.on("GET", "/v1/redteam/allowed", {"items": [model]})
    server.on("DELETE", "/v1/redteam/allowed/tiny", Answer(status=204))
    assert tenfold.admin.allow_model("tiny", "builtin:colours") == tenfold.admin.allowed_models()[0]
    assert server.asked[0].json == {"ref": "builtin:colours"}
    tenfold.admin.forbid_model("tiny")


def test_the_audit_comes_page_after_page(server, tenfold):
    pages = [{"items": [{"id": "1"}, {"id": "2"}], "next_after": "2"}, {"items": [{"id": "3"}], "next_after": None}]
    server.on("GET", "/v1/redteam/audit", *pages)
    assert [entry.id for entry in tenfold.admin.audit(page_size=2)] == ["1", "2", "3"]
    assert server.asked[1].query == {"limit": ["2"], "after": ["2"]}


def test_the_audit_is_verified(server, tenfold):
    server.on("GET", "/v1/redteam/audit/verify", {"ok": False, "entries": 3, "broken_at": "2"})
    assert tenfold.admin.verify_audit().broken_at == "2"


def test_upkeep_says_what_it_did(server, tenfold):
    server.on("POST", "/v1/gc", {"removed": ["jobs/A/1-x"], "bytes": 5, "dry_run": True})
    server.on("POST", "/v1/reindex", {"restored": 2, "skipped": 1})
    assert tenfold.admin.collect_garbage(dry_run=True).removed == ["jobs/A/1-x"]
    assert server.asked[0].json == {"dry_run": True}
    assert tenfold.admin.reindex().restored == 2
