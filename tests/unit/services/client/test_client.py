import pytest

import services.client
from services.client import Conflict, Tenfold, TimedOut, Unreachable
from tests.unit.services.api_server import ID, Answer, job

CUT = Answer(cut_after=0)


def test_the_exported_names_are_sorted_and_exist():
    assert services.client.__all__ == sorted(services.client.__all__)
    assert all(hasattr(services.client, name) for name in services.client.__all__)


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        pytest.param({}, "http://127.0.0.1:8000", id="the embedded cluster"),
        pytest.param({"TENFOLD_PORT_BASE": "21000"}, "http://127.0.0.1:21000", id="on other ports"),
        pytest.param({"TENFOLD_PORT_BASE": "21000", "TENFOLD_URL": "https://a.test/"}, "https://a.test", id="named"),
    ],
)
def test_the_environment_says_where_the_cluster_is(monkeypatch, environment, url):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Tenfold() as tenfold:
        assert tenfold.url == url


def test_the_token_of_the_environment_goes_with_every_call(monkeypatch, server):
    monkeypatch.setenv("TENFOLD_TOKEN", "tf_secret")
    server.on("GET", "/v1/me", {"owner": "ada", "scopes": ["jobs:read"]})
    with Tenfold(server.url) as tenfold:
        assert tenfold.me().owner == "ada"
    assert server.asked[0].headers["authorization"] == "Bearer tf_secret"


def test_a_proxy_of_the_environment_does_not_carry_calls_to_this_machine(monkeypatch, server):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.on("GET", "/v1/me", {"owner": "local", "scopes": []})
    with Tenfold(server.url) as tenfold:
        assert tenfold.me().owner == "local"


def test_submitting_sends_only_what_was_given(server, tenfold):
    server.on("POST", "/v1/jobs", Answer(job(), 202))
    submitted = tenfold.submit("govsim.simulate", {"runs": 2}, name="a name", priority=None)
    assert submitted.id == ID
    assert server.asked[0].json == {"kind": "govsim.simulate", "params": {"runs": 2}, "name": "a name"}


def test_a_submit_repeated_after_a_broken_connection_carries_the_same_key(server, tenfold):
    server.on("POST", "/v1/jobs", CUT, Answer(job(), 202))
    assert tenfold.submit("govsim.simulate").id == ID
    first, second = (asked.headers["idempotency-key"] for asked in server.asked)
    assert first == second


def test_two_submits_carry_different_keys(server, tenfold):
    server.on("POST", "/v1/jobs", Answer(job(), 202))
    tenfold.submit("govsim.simulate")
    tenfold.submit("govsim.simulate")
    assert server.asked[0].headers["idempotency-key"] != server.asked[1].headers["idempotency-key"]


def test_a_dry_run_asks_for_one_and_gives_the_validated_params(server, tenfold):
    server.on("POST", "/v1/jobs", {"params": {"runs": 5}})
    assert tenfold.check("govsim.simulate") == {"params": {"runs": 5}}
    assert server.asked[0].query == {"dry_run": ["true"]}


def test_a_read_is_repeated_while_the_gateway_restarts(server, tenfold):
    server.on("GET", f"/v1/jobs/{ID}", CUT, CUT, job(state="running"))
    assert tenfold.job(ID).state == "running"


def test_a_cancel_is_not_repeated_since_nobody_knows_whether_it_was_heard(server, tenfold):
    server.on("POST", f"/v1/jobs/{ID}/cancel", CUT, job(state="cancelled"))
    with pytest.raises(Unreachable):
        tenfold.cancel(ID)
    assert len(server.asked) == 1


def test_patience_ends(server):
    server.on("GET", "/v1/me", CUT)
    with Tenfold(server.url, patience_s=0.3) as tenfold, pytest.raises(Unreachable):
        tenfold.me()
    assert 2 <= len(server.asked) <= 5


def test_jobs_come_page_after_page_and_a_short_page_does_not_end_them(server, tenfold):
    pages = [
        {"items": [job(id="C")], "next_cursor": "1"},
        {"items": [], "next_cursor": "2"},
        {"items": [job(id="B"), job(id="A")], "next_cursor": None},
    ]
    server.on("GET", "/v1/jobs", *pages)
    assert [found.id for found in tenfold.jobs()] == ["C", "B", "A"]
    assert [asked.query.get("cursor") for asked in server.asked] == [None, ["1"], ["2"]]


def test_pages_are_fetched_as_they_are_needed(server, tenfold):
    server.on("GET", "/v1/jobs", {"items": [job(id="B"), job(id="A")], "next_cursor": "1"})
    next(tenfold.jobs())
    assert len(server.asked) == 1


def test_filters_reach_the_cluster(server, tenfold):
    server.on("GET", "/v1/jobs", {"items": [], "next_cursor": None})
    list(tenfold.jobs(kind="govsim.simulate", state="failed", labels={"a": "1", "b": "2"}, owner="me", page_size=7))
    assert server.asked[0].query == {
        "kind": ["govsim.simulate"], "state": ["failed"], "label": ["a:1", "b:2"], "owner": ["me"], "limit": ["7"],
    }  # fmt: skip


def test_waiting_asks_until_the_job_is_final(server, tenfold):
    server.on("GET", f"/v1/jobs/{ID}", job(state="queued"), job(state="running"), job(state="failed"))
    assert tenfold.wait(ID).state == "failed"
    assert server.asked[0].query == {"wait_s": ["60"]}


def test_waiting_ends_at_its_timeout_and_says_where_the_job_is(server, tenfold):
    server.on("GET", f"/v1/jobs/{ID}", job(state="running"))
    with pytest.raises(TimedOut, match="is still running after 0 s"):
        tenfold.wait(ID, timeout_s=0)


def test_an_unknown_field_of_a_newer_cluster_is_kept(server, tenfold):
    server.on("GET", f"/v1/jobs/{ID}", job(estimate_s=12))
    assert tenfold.job(ID).model_extra == {"estimate_s": 12}


def test_deleting_a_job_that_runs_is_a_conflict(server, tenfold):
    server.on("DELETE", f"/v1/jobs/{ID}", Answer({"status": 409, "detail": "it is running"}, 409))
    with pytest.raises(Conflict, match="it is running"):
        tenfold.delete(ID)


def test_a_deleted_job_answers_nothing(server, tenfold):
    server.on("DELETE", f"/v1/jobs/{ID}", Answer(status=204))
    assert tenfold.delete(ID) is None


def test_a_sweep_sends_its_grid_and_seeds(server, tenfold):
    server.on("POST", "/v1/sweeps", Answer({"id": "S", "jobs": ["A", "B"]}, 202))
    sweep = tenfold.submit_sweep("govsim.simulate", {"runs": 1}, grid={"months": [6, 12]}, seeds=[1, 2], name="n")
    assert sweep.jobs == ["A", "B"]
    assert server.asked[0].json == {
        "kind": "govsim.simulate", "params": {"runs": 1}, "name": "n", "grid": {"months": [6, 12]}, "seeds": [1, 2],
    }  # fmt: skip


def test_the_rest_of_the_api_answers_with_models(server, tenfold):
    kind = {"kind": "govsim.simulate", "version": 1, "method": "govsim", "pool": "sim", "summary": "s"}
    queue = {"pool": "sim", "waiting": 1, "running": 2, "slots": 2, "workers": 1, "oldest_wait_s": 0.5}
    sweep = {"id": "S", "states": {"queued": 2}}
    server.on("GET", "/v1/kinds", {"items": [kind]})
    server.on("GET", "/v1/kinds/govsim.simulate", kind)
    server.on("GET", "/v1/queues", {"items": [queue]})
    server.on("GET", "/v1/sweeps", {"items": [sweep]})
    server.on("GET", "/v1/sweeps/S", sweep)
    server.on("POST", "/v1/sweeps/S/cancel", Answer(sweep, 202))
    server.on("POST", f"/v1/jobs/{ID}/retry", Answer(job(), 202))
    server.on("GET", "/healthz", {"ok": True})
    assert tenfold.kinds() == [tenfold.kind("govsim.simulate")]
    assert tenfold.queues()[0].oldest_wait_s == 0.5
    assert tenfold.sweeps() == [tenfold.sweep("S")] == [tenfold.cancel_sweep("S")]
    assert tenfold.retry(ID).state == "queued"
    assert tenfold.is_alive()


def test_a_cluster_that_is_not_ready_says_what_is_missing(server, tenfold):
    server.on("GET", "/readyz", Answer({"status": 503, "title": "not ready", "detail": "redis"}, 503), {"redis": True})
    assert tenfold.readiness().details["detail"] == "redis"
    assert tenfold.readiness().ok


def test_the_log_is_text_from_an_offset_on(server, tenfold):
    server.on("GET", f"/v1/jobs/{ID}/log", Answer("zweite Zeile ü\n".encode(), headers={"Content-Type": "text/plain"}))
    assert tenfold.log(ID, offset=12) == "zweite Zeile ü\n"
    assert server.asked[0].query == {"offset": ["12"]}
