"""GOVSIM's models through HTTP on the cluster: a clone is trained, examined and plays; others are refused."""

import json

import pytest

from services.client import Refused
from tests.cluster.embedded import eventually
from tests.tiny_model import pack, save_tiny_model

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def ready(cluster):
    eventually(lambda: cluster.is_healthy("gateway", "redis", "worker-sim", "worker-cpu"))


def succeeded(tenfold, kind, params):
    job = tenfold.wait(tenfold.submit(kind, params).id, timeout_s=100)
    assert job.state == "succeeded", job.error
    return job


@pytest.fixture
def decisions(tmp_path):
    """Agents that take 20 of a full lake."""
    line = {"run": "r", "model": "m", "month": 1, "agent": "persona_0", "pool": 100, "memories": [],
            "reply": "Answer: 20", "wanted": 20}  # fmt: skip
    path = tmp_path / "decisions.jsonl"
    path.write_text((json.dumps(line) + "\n") * 8)
    return path


def test_a_clone_is_trained_examined_and_plays(tenfold, decisions, tmp_path):
    training = {"replies": tenfold.upload(decisions).ref, "steps": 100, "batch_size": 8, "width": 32, "layers": 1}
    trained = succeeded(tenfold, "govsim.train_clone", training)
    assert trained.result["decisions"] == 8
    clone = f"job:{trained.id}/model.tar"

    society = {"policies": {"type": "llm", "model": clone}, "communication": False, "months": 2, "runs": 2,
               "max_tokens": 8}  # fmt: skip
    played = succeeded(tenfold, "govsim.simulate", society)
    assert [run["demanded"] for run in played.result["runs"]] == [[[20] * 5]] * 2
    assert (played.result["model_calls"], played.result["invalid_runs"]) == (10, 0)
    names = {artifact.name for artifact in played.artifacts}
    assert {"transcript.jsonl", "memory.jsonl", "runs.jsonl", "runs_stock.plotly.json", "log_env.tar"} <= names

    asking = {"model": clone, "items": 2, "tests": ["sustainable_action", "dynamics"], "max_tokens": 8}
    examined = succeeded(tenfold, "govsim.subskills", asking)
    assert [score["items"] for score in examined.result["scores"]] == [2, 2]
    items = tenfold.download(examined.id, "items.jsonl", tmp_path / "items.jsonl").read_text().splitlines()
    transcript = tenfold.download(examined.id, "transcript.jsonl", tmp_path / "t.jsonl").read_text().splitlines()
    assert {json.loads(item)["key"] for item in items} <= {json.loads(call)["key"] for call in transcript}

    analysing = {"sources": [f"job:{played.id}"], "subskills": [f"job:{examined.id}"]}
    analysed = succeeded(tenfold, "govsim.analyse", analysing)
    figure = tenfold.download(analysed.id, "harvest.plotly.json", tmp_path / "harvest.json").read_text()
    point = json.loads(figure)["data"][0]["customdata"][0]
    assert {key["source"] for key in point["keys"]} == {f"job:{played.id}"}


def refused(tenfold, model):
    """How a society of that model ends: with log and manifest only."""
    params = {"policies": {"type": "llm", "model": model}, "runs": 1}
    ended = tenfold.wait(tenfold.submit("govsim.simulate", params).id, timeout_s=60)
    assert (ended.state, ended.error.type, ended.error.retryable) == ("failed", "invalid_input", False)
    assert {artifact.name for artifact in ended.artifacts} == {"log.txt", "manifest.json"}
    return ended.error.message


def test_a_model_without_chat_template_ends_the_job_as_invalid_input(tenfold, tmp_path):
    tar = pack(save_tiny_model(tmp_path / "tiny", template=None), tmp_path / "model.tar")
    assert "has no chat template: take a model tuned for chat" in refused(tenfold, tenfold.upload(tar).ref)


def test_a_missing_secret_ends_the_job_as_invalid_input(tenfold):
    assert "endpoint locked needs the secret no-such-key" in refused(tenfold, "endpoint:locked/some-model")


def test_an_unknown_endpoint_is_refused_at_submit(tenfold):
    with pytest.raises(Refused) as refusal:
        tenfold.submit("govsim.simulate", {"policies": {"type": "llm", "model": "endpoint:attic/some-model"}})
    assert refusal.value.problem.status == 422
    assert "there is no endpoint attic" in refusal.value.problem.errors[0].msg
