"""Societies against a real HTTP server that is slow, fails, limits, garbles and cuts off; killed and resumed."""

import asyncio
import json
import os
import signal
import threading
from collections import Counter
from types import SimpleNamespace

import pytest

from shared.jobs.catalog.govsim import SimulateParams
from shared.jobs.errors import Cancelled, InvalidInput, Permanent, Retryable
from shared.jobs.local import LocalContext
from tests.openai_server import Behaviour, OpenAIServer
from tests.tiny_model import save_tiny_model
from tests.unit.workers.govsim.endpoint_process import (
    POLICY,
    endpoints_file,
    run_job,
    start,
    stored_keys,
    talk_over_http,
)
from tests.unit.workers.govsim.scripted import society_script

SOCIETY = {"runs": 2, "months": 2}
SCRIPT = society_script(units=11, utterances=4)
KILLED_AT = [  # a key's beginning in every phase of a month, the first, middle and last run of calls
    pytest.param("run1/month1/harvest/agent3", id="harvest"),
    pytest.param("run0/month1/utterance/step3", id="discussion-utterances"),
    pytest.param("run0/month1/interesting/agent2", id="discussion-thoughts"),
    pytest.param("run1/month1/importance/agent4/planning", id="discussion-ratings"),
    pytest.param("run1/month1/insights/agent1", id="home-insights"),
    pytest.param("run1/month2/importance/agent3/insight2", id="home-ratings"),
]


def scripted(request):
    return SCRIPT(SimpleNamespace(key=request.key))


@pytest.fixture
def server():
    with OpenAIServer(scripted) as server:
        yield server


@pytest.fixture
def play(server, tmp_path):
    """Run the society in this process; its folder."""

    def run(name="job", runs=1, months=1, **endpoint):
        run_job(tmp_path / name, endpoints_file(tmp_path, server.url, **endpoint), {"runs": runs, "months": months})
        return tmp_path / name

    return run


def outputs(folder):
    """Result and artifacts but for timings."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "timings.jsonl"
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What an undisturbed job leaves, and what it asked."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with OpenAIServer(scripted) as server:
        run_job(folder / "job", endpoints_file(folder, server.url), SOCIETY)
        return outputs(folder / "job"), Counter(server.counts)


class Assassin:
    """Kills the process that asks for a key, as soon as it asks and before it is answered."""

    def __init__(self):
        self.victim, self.at, self.struck = None, None, threading.Event()

    def __call__(self, request):
        if self.victim is not None and request.key == self.at and not self.struck.is_set():
            os.kill(self.victim.pid, signal.SIGKILL)
            self.victim.join()
            self.struck.set()
        return scripted(request)


@pytest.mark.parametrize("at", KILLED_AT)
def test_a_society_killed_in_any_phase_resumes_to_the_same_bytes_and_asks_nothing_stored_again(
    tmp_path, undisturbed, at
):
    expected, asked = undisturbed
    assassin, folder = Assassin(), tmp_path / "job"
    with OpenAIServer(assassin) as server:
        endpoints = endpoints_file(tmp_path, server.url)
        assassin.at = at
        assassin.victim = start(folder, endpoints, SOCIETY)
        assert assassin.struck.wait(60)
        stored, before = stored_keys(folder), Counter(server.counts)
        assert stored
        again = start(folder, endpoints, SOCIETY)
        again.join(60)
        assert again.exitcode == 0
        repeated = {key for key, count in server.counts.items() if count > 1}
        assert at in repeated
        assert not repeated & stored
        assert len(repeated) <= 8  # the calls in flight: the endpoint's limit
        assert set(server.counts) == set(asked)
        assert all(server.counts[key] == before[key] for key in stored)
    assert outputs(folder) == expected


def test_a_society_killed_again_and_again_gets_done(tmp_path, undisturbed):
    folder = tmp_path / "job"
    assassin = Assassin()
    with OpenAIServer(assassin) as server:
        endpoints = endpoints_file(tmp_path, server.url)
        for at in (param.values[0] for param in KILLED_AT):
            assassin.at, assassin.struck = at, threading.Event()
            assassin.victim = start(folder, endpoints, SOCIETY)
            assert assassin.struck.wait(60)
        last = start(folder, endpoints, SOCIETY)
        last.join(60)
    assert outputs(folder) == undisturbed[0]


MISHAPS = [
    pytest.param(Behaviour(delay_s=0.3), id="slow"),
    pytest.param(Behaviour(status=500), id="failing"),
    pytest.param(Behaviour(status=503), id="overloaded"),
    pytest.param(Behaviour(status=429, headers={"Retry-After": "0"}), id="rate-limited"),
    pytest.param(Behaviour(raw=b'{"choices": ['), id="malformed"),
    pytest.param(Behaviour(drop=True), id="cut-off"),
]


@pytest.mark.parametrize("mishap", MISHAPS)
def test_trap_15_passing_mishaps_of_the_server_change_no_byte(server, play, tmp_path, mishap):
    expected = outputs(play("plain"))
    for key in ("run0/month1/harvest/agent2", "run0/month1/utterance/step2", "run0/month1/importance/agent0/planning"):
        server.behave(key, mishap, times=1)
    assert outputs(play("disturbed")) == expected


def test_a_truncated_answer_is_repaired_and_on_record(server, play):
    """Cut off before its marker, a demand can't be read; it is asked for once more."""
    server.behave("run0/month1/harvest/agent2", Behaviour(truncate=10), times=1)
    folder = play()
    text = (folder / "transcript.jsonl").read_text()
    assert '"finish_reason":"length"' in text
    assert "run0/month1/harvest/agent2/again1" in text
    assert '"fallback":true' not in text


@pytest.mark.parametrize("prefill", ["no", "vllm"])
def test_blank_answers_are_counted_and_make_the_run_invalid(tmp_path, prefill):
    """A model that spends all its tokens on reasoning says nothing, however often it is asked."""

    def mute(request):
        return "" if "/harvest/" in request.key else scripted(request)

    with OpenAIServer(mute) as server:
        endpoints = endpoints_file(tmp_path, server.url, prefill=prefill)
        run_job(tmp_path / "job", endpoints, {"runs": 1, "months": 1})
        asked = Counter(server.counts)
    assert {asked[key] for key in asked if "/harvest/" in key} == {1}
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    assert (result["invalid_runs"], result["fallback_rate"]) == (1, pytest.approx(5 / 51))


def test_trap_15_a_server_that_never_answers_fails_the_job_for_now(server, tmp_path):
    server.behave("run0/month1/harvest", Behaviour(status=500))
    endpoints = endpoints_file(tmp_path, server.url, tries=2, retry_budget_s=1)
    with pytest.raises(Retryable, match="500"):
        run_job(tmp_path / "job", endpoints, {"runs": 1, "months": 1})


def test_trap_15_a_refusal_is_neither_repeated_nor_turned_into_a_default(server, tmp_path):
    server.behave("run0/month1/harvest/agent0", Behaviour(status=400))
    with pytest.raises(Permanent):
        run_job(tmp_path / "job", endpoints_file(tmp_path, server.url), {"runs": 1, "months": 1})
    assert server.counts["run0/month1/harvest/agent0"] == 1
    assert not (tmp_path / "job" / "runs.jsonl").exists()


def test_trap_16_the_key_enters_no_artifact_and_no_stored_reply(server, tmp_path, monkeypatch):
    key = "sk-very-secret-0123456789"
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "lab-key").write_text(key)
    monkeypatch.setenv("TENFOLD_SECRETS", str(tmp_path / "secrets"))
    run_job(tmp_path / "job", endpoints_file(tmp_path, server.url, secret="lab-key"), {"runs": 1, "months": 1})
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {key}"}
    written = [path for path in (tmp_path / "job").rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if key.encode() in path.read_bytes()]


def test_what_was_answered_before_a_failure_is_not_asked_again(server, tmp_path):
    server.behave("run0/month1/harvest/agent3", Behaviour(status=500))
    endpoints = endpoints_file(tmp_path, server.url, tries=1)
    with pytest.raises(Retryable):
        run_job(tmp_path / "job", endpoints, {"runs": 1, "months": 1})
    server.well_behaved()
    run_job(tmp_path / "job", endpoints, {"runs": 1, "months": 1})
    assert {key for key, count in server.answered.items() if count > 1} == set()


def test_a_refusal_fails_the_job_for_good(server, tmp_path):
    server.behave("run0/month1/harvest", Behaviour(status=400, message="no such model"))
    with pytest.raises(Permanent, match="no such model"):
        run_job(tmp_path / "job", endpoints_file(tmp_path, server.url), {"runs": 1, "months": 1})


def test_at_most_so_many_calls_are_in_flight(tmp_path):
    with OpenAIServer(scripted, delay_s=0.02) as server:
        endpoints = endpoints_file(tmp_path, server.url, max_in_flight=3)
        run_job(tmp_path / "job", endpoints, {"runs": 2, "months": 1})
        assert server.most_at_once == 3


def test_calls_of_all_runs_share_the_endpoint(tmp_path):
    with OpenAIServer(scripted, delay_s=0.05) as server:
        endpoints = endpoints_file(tmp_path, server.url, max_in_flight=40)
        run_job(tmp_path / "job", endpoints, {"runs": 4, "months": 1})
        assert server.most_at_once == 40
        assert server.connections <= 40


def test_a_cancelled_society_stops_while_models_are_slow(tmp_path):
    with OpenAIServer(scripted, delay_s=30) as server:
        ctx = LocalContext(tmp_path / "job")
        threading.Timer(0.5, lambda: setattr(ctx, "cancelled", True)).start()
        params = SimulateParams(policies=POLICY, runs=1)
        with pytest.raises(Cancelled):
            asyncio.run(asyncio.wait_for(talk_over_http(params, ctx, endpoints_file(tmp_path, server.url)), 10))
        ctx.release()


def test_a_missing_encoder_is_refused_before_a_model_is_loaded(tmp_path, monkeypatch):
    from shared.llm import local
    from workers.govsim.jobs import simulate

    model, encoder = (f"file:{digit * 64}" for digit in "01")
    monkeypatch.setattr(local, "_load", lambda *_: pytest.fail("loaded weights"))
    monkeypatch.setenv("TENFOLD_DATA", str(tmp_path / "data"))
    (tmp_path / "empty").mkdir()
    folder = save_tiny_model(tmp_path / "tiny")
    ctx = LocalContext(tmp_path / "job", inputs={model: folder, encoder: tmp_path / "empty"})
    with pytest.raises(InvalidInput, match=encoder):
        simulate(SimulateParams(policies={"type": "llm", "model": model}, memory_encoder=encoder), ctx)
    ctx.release()
    assert ctx.artifacts == ()


@pytest.mark.parametrize(
    ("reference", "more", "says"),
    [
        pytest.param("endpoint:nowhere/m", {}, "nowhere", id="unknown-endpoint"),
        pytest.param("endpoint:test/model", {"secret": "lab-key"}, "lab-key", id="missing-secret"),
    ],
)
def test_a_model_that_can_not_be_had_is_refused_before_work_starts(
    server, tmp_path, monkeypatch, reference, more, says
):
    from workers.govsim.jobs import simulate

    monkeypatch.setenv("TENFOLD_ENDPOINTS", str(endpoints_file(tmp_path, server.url, **more)))
    ctx = LocalContext(tmp_path / "job")
    with pytest.raises(InvalidInput, match=says):
        simulate(SimulateParams(policies={"type": "llm", "model": reference}), ctx)
    ctx.release()
    assert (ctx.artifacts, server.requests) == ((), [])
