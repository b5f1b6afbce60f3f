"""POST /v1/jobs: what is accepted, what is refused with which field, and what a repeated key brings."""

import threading

import pytest

from shared.jobs.states import JobState

NOOP = {"kind": "test.noop", "params": {"note": "Größe"}}


def post(api, body=NOOP, key=None, **more):
    headers = {"Idempotency-Key": key} if key else {}
    return api.post("/v1/jobs", json=body, headers=headers, **more)


def errors(answer) -> dict[str, str]:
    """The refused fields by path."""
    return {".".join(map(str, error["loc"])): error["msg"] for error in answer.json["errors"]}


def test_a_submit_answers_with_the_queued_job_and_where_it_is(api):
    answer = post(api, {**NOOP, "name": "first", "labels": {"study": "a"}, "timeout_s": 5})
    job = answer.json
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["attempt"], job["owner"]) == ("queued", 0, "local")
    assert job["params"] == {"note": "Größe", "size": 0}  # defaults filled in
    assert (job["name"], job["labels"], job["timeout_s"]) == ("first", {"study": "a"}, 5.0)


def test_the_answer_to_a_submit_is_what_a_look_at_the_job_says(api):
    job = post(api, {**NOOP, "name": "n", "labels": {"a": "b"}, "priority": "high", "timeout_s": 1.5}).json
    assert api.get(f"/v1/jobs/{job['id']}").json == job


def test_a_job_that_needs_an_unfinished_one_is_blocked_and_says_by_whom(api, submit):
    first = submit("test.walk")
    answer = post(api, {"kind": "test.walk", "params": {"source": f"job:{first}"}})
    assert (answer.json["state"], answer.json["waiting_for"]) == ("blocked", [first])


def test_a_dry_run_validates_and_stores_nothing(api):
    answer = post(api, query_string={"dry_run": "true"})
    assert answer.status_code == 200
    assert answer.json == {"kind": "test.noop", "params": {"note": "Größe", "size": 0}}
    assert api.get("/v1/jobs").json["items"] == []


def test_a_dry_run_refuses_what_a_submit_would(api):
    assert post(api, {"kind": "test.noop", "params": {"size": -1}}, query_string={"dry_run": "true"}).status_code == 422


@pytest.mark.parametrize(("body", "field"), [
    pytest.param({"params": {}}, "body.kind", id="no kind"),
    pytest.param({"kind": "test.nope", "params": {}}, "body.kind", id="unknown kind"),
    pytest.param({"kind": 7, "params": {}}, "body.kind", id="kind is no text"),
    pytest.param({"kind": "test.noop"}, "body.params", id="no params"),
    pytest.param({**NOOP, "colour": "red"}, "body.colour", id="unknown field"),
    pytest.param({"kind": "test.noop", "params": {"colour": 1}}, "body.params.colour", id="unknown param"),
    pytest.param({"kind": "test.noop", "params": {"size": "5"}}, "body.params.size", id="text is no number"),
    pytest.param({"kind": "test.noop", "params": {"size": True}}, "body.params.size", id="true is no number"),
    pytest.param({"kind": "test.noop", "params": {"size": 2**53 + 2}}, "body.params.size", id="beyond 2^53"),
    pytest.param({"kind": "test.noop", "params": {"note": "a\x00"}}, "body.params.note", id="NUL"),
    pytest.param({"kind": "test.noop", "params": {"note": "\ud800"}}, "body.params.note", id="lone surrogate"),
    pytest.param({**NOOP, "max_attempts": 0}, "body.max_attempts", id="max_attempts below"),
    pytest.param({**NOOP, "max_attempts": 101}, "body.max_attempts", id="max_attempts above"),
    pytest.param({**NOOP, "timeout_s": 0.5}, "body.timeout_s", id="timeout below"),
    pytest.param({**NOOP, "timeout_s": 2_592_001}, "body.timeout_s", id="timeout above"),
    pytest.param({**NOOP, "priority": "urgent"}, "body.priority", id="priority"),
    pytest.param({**NOOP, "name": "n" * 201}, "body.name", id="name too long"),
    pytest.param({**NOOP, "labels": {"a": "v" * 64}}, "body.labels.a", id="label too long"),
    pytest.param({**NOOP, "labels": {"A": "v"}}, "body.labels.A", id="label key in capitals"),
    pytest.param({**NOOP, "labels": {f"k{n}": "v" for n in range(17)}}, "body.labels", id="17 labels"),
    pytest.param({"kind": "govsim.simulate", "params": {"scenario": "desert"}}, "body.params.scenario", id="scenario"),
    pytest.param({"kind": "test.walk", "params": {"source": "file:" + "0" * 64}}, "body.params.source", id="no file"),
    pytest.param({"kind": "test.walk", "params": {"source": "job:" + "0" * 26}}, "body.params.source", id="no job"),
    pytest.param({"kind": "test.walk", "params": {"source": "/etc/passwd"}}, "body.params.source", id="a path"),
    pytest.param({"kind": "test.walk", "params": {"source": "endpoint:x/y"}}, "body.params.source", id="endpoint"),
])  # fmt: skip
def test_a_refusal_names_the_field(api, body, field):
    answer = post(api, body)
    assert answer.status_code == 422
    assert field in errors(answer)


def test_a_failed_job_can_not_be_referred_to(api, submit, worker):
    job = submit("test.walk")
    worker.fail(worker.claim(job))
    answer = post(api, {"kind": "test.walk", "params": {"source": f"job:{job}/end.txt"}})
    assert "failed" in errors(answer)["body.params.source"]


def test_a_missing_artifact_is_refused_with_those_there_are(api, submit, worker):
    job = submit("test.walk")
    worker.run(job, end_txt=b"1.0")
    answer = post(api, {"kind": "test.walk", "params": {"source": f"job:{job}/model"}})
    assert "it has: end.txt" in errors(answer)["body.params.source"]


# Idempotency keys -----------------------------------------------------------------------------------------------------


def test_the_same_key_and_body_bring_the_same_job(api):
    first, again = post(api, key="k-1"), post(api, key="k-1")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json["id"] == first.json["id"]


def test_the_order_of_the_keys_in_a_body_does_not_make_it_another(api):
    first = post(api, {"kind": "test.noop", "params": {"note": "x", "size": 1}}, key="k")
    again = post(api, {"params": {"size": 1, "note": "x"}, "kind": "test.noop"}, key="k")
    assert again.json["id"] == first.json["id"]


def test_the_same_key_with_another_body_is_refused(api):
    post(api, key="k-1")
    answer = post(api, {**NOOP, "name": "other"}, key="k-1")
    assert answer.status_code == 422
    assert errors(answer) == {"header.Idempotency-Key": "used with another body"}


def test_identical_requests_at_once_make_one_job(app):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(post(app.test_client(), key="once"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len({answer.json["id"] for answer in answers}) == 1


@pytest.mark.parametrize("key", ["", "with space", "ü", "x" * 256])
def test_an_odd_key_is_refused(api, key):
    answer = api.post("/v1/jobs", json=NOOP, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert "header.Idempotency-Key" in errors(answer)


def test_deleting_a_job_frees_its_key(api, worker):
    first = post(api, key="k").json["id"]
    worker.run(first)
    assert api.delete(f"/v1/jobs/{first}").status_code == 204
    again = post(api, key="k")
    assert again.status_code == 202
    assert again.json["id"] != first


def test_a_repeated_submit_brings_its_job_though_the_job_it_needs_is_gone(api, submit, worker):
    source = submit("test.walk")
    worker.run(source, end_txt=b"1.0")
    body = {"kind": "test.walk", "params": {"source": f"job:{source}/end.txt"}}
    first = post(api, body, key="k").json["id"]
    worker.run(first)
    assert api.delete(f"/v1/jobs/{source}").status_code == 204
    again = post(api, body, key="k")
    assert (again.status_code, again.json["id"]) == (200, first)


def test_a_repeated_submit_brings_its_job_though_the_store_is_full(api, parts, monkeypatch):
    first = post(api, key="k").json["id"]
    monkeypatch.setattr(parts, "_is_full", True)
    monkeypatch.setattr(parts, "_looked", float("inf"))
    assert post(api, key="new").status_code == 503
    again = post(api, key="k")
    assert (again.status_code, again.json["id"]) == (200, first)


# Limits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.settings(max_unfinished=2)
def test_more_unfinished_jobs_than_an_owner_may_have_are_refused_until_some_end(api, submit, worker):
    first = submit()
    submit()
    answer = post(api)
    assert (answer.status_code, answer.json["type"]) == (429, "/problems/quota")
    assert int(answer.headers["Retry-After"]) > 0
    worker.run(first)
    assert post(api).status_code == 202


def test_a_job_store_nearly_full_takes_no_work_and_still_answers(api, parts, submit):
    job = submit()
    used = parts.store.redis.info("memory")["used_memory"]
    parts.store.redis.config_set("maxmemory", int(used * 1.1))
    try:
        parts._looked = 0.0
        answer = post(api)
        assert (answer.status_code, answer.json["type"]) == (503, "/problems/storage_full")
        assert api.post(f"/v1/jobs/{job}/cancel").status_code == 202
    finally:
        parts.store.redis.config_set("maxmemory", 0)


def test_a_job_store_that_is_full_says_so_and_not_that_something_broke(api, parts):
    parts._looked = float("inf")  # as if it had been looked at a moment before it filled up
    parts.store.redis.config_set("maxmemory", 1)
    try:
        assert post(api).json["type"] == "/problems/storage_full"
    finally:
        parts.store.redis.config_set("maxmemory", 0)


def test_what_a_submit_writes_is_a_message_that_a_worker_can_claim(api, parts, worker):
    job = post(api).json["id"]
    assert parts.store.redis.llen("test:3") == 1
    worker.run(job)
    assert parts.store.get(job).state is JobState.SUCCEEDED
