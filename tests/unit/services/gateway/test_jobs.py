"""Looking at jobs, and what may be done to them."""

import threading
import time

import pytest

from shared.jobs.history import write_committed


def ids(answer) -> list[str]:
    return [item["id"] for item in answer.json["items"]]


@pytest.fixture
def retired(api, parts, submit, worker):
    """A finished job whose record is past its days: only its files are left."""

    def retire(how: str = "succeed") -> str:
        job = submit("test.walk")
        claim = worker.claim(job)
        worker.succeed(claim, {"position": 1.0, "farthest": 1.0}, end_txt=b"1.0") if how == "succeed" else worker.fail(
            claim
        )
        write_committed(job, parts.store, parts.artifacts)
        parts.store.redis.zrem("tf:untidy", job)  # as the reconciler does once its files are in order
        parts.store.forget(job, with_files=False)
        return job

    return retire


# Listing --------------------------------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_without_params_result_and_artifacts(api, submit):
    jobs = [submit() for _ in range(3)]
    answer = api.get("/v1/jobs")
    assert ids(answer) == jobs[::-1]
    assert {"params", "result", "artifacts"}.isdisjoint(answer.json["items"][0])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({"kind": "test.walk"}, {"walk"}, id="kind"),
        pytest.param({"kind": "test.other"}, set(), id="kind that nobody submitted"),
        pytest.param({"state": "succeeded"}, {"done"}, id="state"),
        pytest.param({"label": "study:a"}, {"walk", "done"}, id="label"),
        pytest.param({"label": ["study:a", "arm:1"]}, {"walk"}, id="labels: all must hold"),
        pytest.param({"label": "study:"}, {"empty"}, id="an empty label value"),
        pytest.param({"label": "study:a:b"}, {"colon"}, id="a colon in a label's value"),
        pytest.param({"owner": "me"}, {"walk", "done", "empty", "colon"}, id="mine"),
        pytest.param({"owner": "somebody"}, set(), id="somebody's"),
        pytest.param({"kind": "test.walk", "state": "succeeded"}, set(), id="two criteria"),
    ],
)
def test_a_list_holds_the_jobs_that_meet_every_criterion(api, submit, worker, query, expected):
    named = {
        submit("test.walk", labels={"study": "a", "arm": "1"}): "walk",
        (done := submit(labels={"study": "a"})): "done",
        submit(labels={"study": ""}): "empty",
        submit(labels={"study": "a:b"}): "colon",
    }
    worker.run(done)
    assert {named[job] for job in ids(api.get("/v1/jobs", query_string=query))} == expected


def test_every_job_of_the_first_page_comes_once_while_new_ones_arrive(api, submit):
    before = [submit() for _ in range(7)]
    seen, cursor = [], None
    while True:
        answer = api.get("/v1/jobs", query_string={"limit": 3, **({"cursor": cursor} if cursor else {})})
        seen += ids(answer)
        cursor = answer.json["next_cursor"]
        submit()
        if cursor is None:
            break
    assert [job for job in seen if job in before] == before[::-1]


@pytest.mark.parametrize("query", [
    {"limit": 0}, {"limit": 201}, {"limit": "x"}, {"cursor": "x"}, {"state": "lost"}, {"label": "nocolon"},
    {"label": "BIG:x"}, {"owner": "a b"}, {"kind": ""}, {"colour": "red"}, {"limit": ["1", "2"]}, {"owner": "a\x00"},
])  # fmt: skip
def test_an_odd_query_is_refused_with_the_parameter(api, query):
    answer = api.get("/v1/jobs", query_string=query)
    assert answer.status_code == 422
    assert answer.json["errors"][0]["loc"][:2] == ["query", next(iter(query))]


@pytest.mark.parametrize("said", ["yes", "1", "True", ""])
def test_a_truth_value_is_true_or_false_and_nothing_else(api, said):
    answer = api.post("/v1/jobs", json={"kind": "test.noop", "params": {}}, query_string={"dry_run": said})
    assert answer.status_code == 422


@pytest.mark.parametrize("path", ["/v1/kinds", "/v1/me", "/v1/queues", "/v1/jobs/01M86AYJQV000N6W7J0SFJCABF/artifacts"])
def test_a_query_is_refused_where_none_is_read(api, path):
    assert api.get(path, query_string={"x": "1"}).status_code == 422


# One job --------------------------------------------------------------------------------------------------------------


def test_waiting_answers_when_the_job_is_final(api, submit, worker):
    job = submit()
    ending = threading.Timer(0.3, lambda: worker.run(job))
    ending.start()
    start = time.monotonic()
    answer = api.get(f"/v1/jobs/{job}", query_string={"wait_s": 30})
    ending.join()
    assert answer.json["state"] == "succeeded"
    assert time.monotonic() - start < 20


def test_waiting_ends_after_its_time_with_the_job_as_it_is(api, submit):
    assert api.get(f"/v1/jobs/{submit()}?wait_s=0.1").json["state"] == "queued"


def test_waiting_for_a_job_that_is_deleted_ends_in_not_found(api, parts, submit, worker):
    job = submit()
    worker.run(job)
    assert api.get(f"/v1/jobs/{job}?wait_s=5").status_code == 200
    parts.store.forget(job, with_files=True)
    assert api.get(f"/v1/jobs/{job}?wait_s=5").status_code == 404


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "soon"])
def test_waiting_is_bounded(api, submit, wait):
    assert api.get(f"/v1/jobs/{submit()}", query_string={"wait_s": wait}).status_code == 422


@pytest.mark.parametrize("job_id", ["01M86AYJQV000N6W7J0SFJCABF", "x", "..", "%2e%2e", "01m86ayjqv000n6w7j0sfjcabf"])
def test_an_unknown_job_is_not_found(api, job_id):
    assert api.get(f"/v1/jobs/{job_id}").status_code == 404


def test_a_job_past_its_days_is_served_from_its_files(api, retired):
    job = retired()
    answer = api.get(f"/v1/jobs/{job}").json
    assert (answer["state"], answer["result"]) == ("succeeded", {"position": 1.0, "farthest": 1.0})
    assert api.get(f"/v1/jobs/{job}/artifacts/end.txt").data == b"1.0"


# Cancel, retry, delete ------------------------------------------------------------------------------------------------


def test_a_queued_job_is_cancelled_at_once(api, submit):
    answer = api.post(f"/v1/jobs/{submit()}/cancel")
    assert (answer.status_code, answer.json["state"]) == (202, "cancelled")


def test_a_running_job_is_asked_to_stop(api, submit, worker):
    job = submit()
    claim = worker.claim(job)
    answer = api.post(f"/v1/jobs/{job}/cancel")
    assert (answer.status_code, answer.json["state"]) == (202, "running")
    assert answer.json["cancel_requested_at"] is not None
    worker.fail(claim)
    assert api.get(f"/v1/jobs/{job}").json["state"] == "cancelled"


def test_a_failed_job_is_queued_again_with_its_losses_forgotten(api, submit, worker):
    job = submit()
    worker.fail(worker.claim(job))
    answer = api.post(f"/v1/jobs/{job}/retry")
    assert answer.status_code == 202
    assert (answer.json["state"], answer.json["attempt"], answer.json["losses"]) == ("queued", 1, 0)
    assert answer.json["error"] is None


def test_a_job_of_a_kind_this_cluster_has_no_more_can_not_be_retried(api, parts, submit, worker):
    job = submit()
    worker.fail(worker.claim(job))
    parts.store.redis.hset(f"tf:job:{job}", "kind", "gone.kind")
    answer = api.post(f"/v1/jobs/{job}/retry")
    assert (answer.status_code, answer.json["type"]) == (409, "/problems/conflict")
    assert "gone.kind" in answer.json["detail"]


@pytest.mark.parametrize(("verb", "state"), [
    ("cancel", "succeeded"), ("cancel", "failed"), ("cancel", "retired"),
    ("retry", "queued"), ("retry", "running"), ("retry", "succeeded"), ("retry", "retired"),
    ("retry", "retired failed"),
    ("delete", "queued"), ("delete", "running"), ("delete", "blocked"),
])  # fmt: skip
def test_what_the_state_does_not_allow_is_a_conflict(api, submit, worker, retired, verb, state):
    if state.startswith("retired"):
        job = retired("fail" if "failed" in state else "succeed")
    else:
        job = submit("test.walk", {"source": f"job:{submit('test.walk')}"} if state == "blocked" else {})
    if state in ("running", "failed", "succeeded"):
        claim = worker.claim(job)
        worker.fail(claim) if state == "failed" else worker.succeed(claim) if state == "succeeded" else None
    answer = api.delete(f"/v1/jobs/{job}") if verb == "delete" else api.post(f"/v1/jobs/{job}/{verb}")
    assert (answer.status_code, answer.json["type"]) == (409, "/problems/conflict")


def test_a_deleted_job_is_gone_with_its_files(api, parts, submit, worker):
    job = submit("test.walk")
    worker.run(job, end_txt=b"1.0")
    answer = api.delete(f"/v1/jobs/{job}")
    assert (answer.status_code, answer.data, answer.headers.get("Content-Type")) == (204, b"", None)
    assert api.get(f"/v1/jobs/{job}").status_code == 404
    assert list(parts.artifacts.blobs(f"jobs/{job}")) == []


@pytest.mark.parametrize("is_past_its_days", [False, True])
def test_a_job_whose_artifact_an_unfinished_job_needs_can_not_be_deleted(
    api, submit, worker, retired, is_past_its_days
):
    if is_past_its_days:
        source = retired()
    else:
        source = submit("test.walk")
        worker.run(source, end_txt=b"1.0")
    user = submit("test.walk", {"source": f"job:{source}/end.txt"})
    answer = api.delete(f"/v1/jobs/{source}")
    assert answer.status_code == 409
    assert user in answer.json["detail"]
    assert api.get(f"/v1/jobs/{source}/artifacts/end.txt").data == b"1.0"
    worker.run(user)
    assert api.delete(f"/v1/jobs/{source}").status_code == 204
    assert api.get(f"/v1/jobs/{source}").status_code == 404
