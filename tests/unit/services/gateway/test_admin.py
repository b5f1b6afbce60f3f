"""What an administrator does: the red-team list and its trail, clearing up, rebuilding."""

import pytest

from shared.jobs.history import write_committed


@pytest.fixture
def model() -> dict:
    return {"ref": "builtin:tiny", "digest": "d" * 64}


def test_a_model_is_allowed_listed_and_allowed_no_more(api, model):
    allowed = api.put("/v1/redteam/allowed/tiny", json=model)
    assert (allowed.status_code, allowed.json["added_by"]) == (200, "local")
    assert api.get("/v1/redteam/allowed").json["items"] == [allowed.json]
    assert api.delete("/v1/redteam/allowed/tiny").status_code == 204
    assert api.get("/v1/redteam/allowed").json["items"] == []
    assert api.delete("/v1/redteam/allowed/tiny").status_code == 404


@pytest.mark.parametrize(("name", "body", "status"), [
    ("tiny", {"ref": "secret:key"}, 422), ("tiny", {"ref": "/etc/passwd"}, 422), ("tiny", {}, 422),
    ("-x", {"ref": "builtin:tiny"}, 404),
])  # fmt: skip
def test_what_is_no_model_is_not_allowed(api, name, body, status):
    assert api.put(f"/v1/redteam/allowed/{name}", json=body).status_code == status


def test_the_trail_is_read_in_pages_and_shows_tampering(api, parts, model):
    for name in ("a", "b", "c"):
        api.put(f"/v1/redteam/allowed/{name}", json=model)
    first = api.get("/v1/redteam/audit?limit=2").json
    rest = api.get("/v1/redteam/audit", query_string={"limit": 2, "after": first["next_after"]}).json
    assert [entry["detail"] for entry in first["items"] + rest["items"]] == [
        f"{name} = builtin:tiny {'d' * 64}" for name in "abc"
    ]
    assert rest["next_after"] is None
    assert api.get("/v1/redteam/audit/verify").json == {"ok": True, "entries": 3, "broken_at": None}
    middle = first["items"][1]
    parts.store.redis.xdel("tf:audit", middle["id"])
    verdict = api.get("/v1/redteam/audit/verify").json
    assert (verdict["ok"], verdict["broken_at"]) == (False, rest["items"][0]["id"])


def test_a_dry_gc_removes_nothing_and_a_real_one_what_it_named(api, parts):
    parts.artifacts.put_bytes("jobs/01M86AYJQV000N6W7J0SFJCABF/1-abc/x.txt", b"rubbish")
    folder = parts.artifacts.local_path("jobs/01M86AYJQV000N6W7J0SFJCABF/1-abc/x.txt")
    import os

    os.utime(folder, (0, 0))  # as old as can be
    dry = api.post("/v1/gc", json={"dry_run": True}).json
    assert dry["dry_run"]
    assert dry["bytes"] == 7
    assert parts.artifacts.exists("jobs/01M86AYJQV000N6W7J0SFJCABF/1-abc/x.txt")
    real = api.post("/v1/gc", json={}).json
    assert real["removed"] == dry["removed"]
    assert not parts.artifacts.exists("jobs/01M86AYJQV000N6W7J0SFJCABF/1-abc/x.txt")


def test_reindexing_brings_back_the_records_that_redis_lost(api, parts, submit, worker):
    job = submit("test.walk", labels={"study": "a"})
    worker.run(job, {"position": 1.0, "farthest": 1.0}, end_txt=b"1.0")
    write_committed(job, parts.store, parts.artifacts)
    before = api.get(f"/v1/jobs/{job}").json
    parts.store.redis.flushall()
    assert api.get("/v1/jobs").json["items"] == []
    assert api.post("/v1/reindex").json == {"restored": 1, "skipped": 0}
    assert api.get("/v1/jobs?label=study:a").json["items"][0]["id"] == job
    assert api.get(f"/v1/jobs/{job}").json == before
