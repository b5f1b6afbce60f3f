import time

import pytest

from services.cli.options import PATIENCE_S
from tests.unit.services.api_server import ID, Answer, job, stream

SSE = {"Content-Type": "text/event-stream"}


def test_a_cluster_that_cannot_be_reached_ends_with_3_and_the_remedy_on_stderr(run, monkeypatch):
    monkeypatch.setenv("TENFOLD_URL", "http://127.0.0.1:9")
    outcome = run("jobs")
    assert outcome.code == 3
    assert outcome.out == ""
    assert "no cluster can be reached at http://127.0.0.1:9" in outcome.err
    assert "./tenfold up" in outcome.err


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(["watch", ID], id="watch"),
        pytest.param(["submit", "silu.properties", "--wait"], id="submit --wait"),
        pytest.param(["logs", ID, "-f"], id="logs -f"),
        pytest.param(["get", ID, "runs"], id="get"),
    ],
)
def test_a_patient_verb_is_not_patient_with_a_cluster_it_never_met(run, monkeypatch, verb):
    monkeypatch.setenv("TENFOLD_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    assert run(*verb).code == 3
    assert time.monotonic() - started < PATIENCE_S / 10


def test_a_refusal_ends_with_4_and_the_clusters_words(run, server):
    server.on("GET", f"/v1/jobs/{ID}", Answer({"status": 404, "detail": "there is no job X"}, 404))
    outcome = run("result", ID)
    assert (outcome.code, outcome.err) == (4, "tenfold: there is no job X\n")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["submit"], id="a missing argument"),
        pytest.param(["sbumit"], id="a misspelt verb"),
        pytest.param(["submit", "k", "-p", "runs"], id="no value"),
        pytest.param(["sweep", "k"], id="a sweep of nothing"),
        pytest.param(["jobs", "--limit", "0"], id="out of bounds"),
        pytest.param(["upload", "/no/such/file"], id="no such file"),
    ],
)
def test_wrong_usage_ends_with_2_and_asks_the_cluster_nothing(run, server, arguments):
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.err
    assert server.asked == []


@pytest.mark.parametrize(
    ("state", "code"),
    [
        pytest.param("succeeded", 0, id="succeeded"),
        pytest.param("failed", 1, id="failed"),
        pytest.param("cancelled", 1, id="cancelled"),
    ],
)
@pytest.mark.parametrize("verb", [["watch", ID], ["watch", ID, "--json"], ["submit", "k", "--wait"], ["result", ID]])
def test_the_jobs_outcome_is_the_exit_code(run, server, verb, state, code):
    final = job(state=state, result={"gain": 1.5} if code == 0 else None)
    server.on("POST", "/v1/jobs", Answer(job(), 202))
    server.on("GET", f"/v1/jobs/{ID}", final)
    server.on("GET", f"/v1/jobs/{ID}/events", Answer(stream(("1-0", "state", {"state": state})), headers=SSE))
    assert run(*verb).code == code
