"""LayerSkip and SiLU through all of it: HTTP, queue, a chain of jobs, a worker killed in the middle of training."""

import json

import pytest

from tests.cluster.embedded import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
SMALL = {
    "text": "builtin:stdlib", "preset": "short", "steps": 120, "batch_size": 4, "block_size": 32, "layers": 3,
    "d_model": 32, "heads": 2, "eval_windows": 8, "eval_block_size": 64,
}  # fmt: skip
CLOCKED = {"log.txt", "timings.jsonl", "manifest.json", "speed.jsonl"}


@pytest.fixture(autouse=True)
def ready(cluster):
    eventually(lambda: cluster.is_healthy("gateway", "redis", "worker-cpu", "worker-gpu"))


def finished(tenfold, job):
    job = tenfold.wait(job.id, timeout_s=250)
    assert job.state == "succeeded", job.error
    return job


def digests(job):
    return {artifact.name: artifact.sha256 for artifact in job.artifacts if artifact.name not in CLOCKED}


def test_a_model_is_trained_tuned_and_decoded_as_one_chain(tenfold):
    train = tenfold.submit("layerskip.train", SMALL)
    given = {"model": f"job:{train.id}/model.tar", "prompts": ["import ", "def "], "max_new_tokens": 24}
    tune = tenfold.submit("layerskip.tune", given | {"repeats": 1, "confirm": 1})
    plain = tenfold.submit("layerskip.generate", given | {"strategy": "autoregressive"})
    tuned = tenfold.submit("layerskip.generate", given | {"tune": f"job:{tune.id}/tune.json", "policy": "adaptive"})
    looked = {"model": f"job:{train.id}/model", "eval_data": "builtin:stdlib-valid", "windows": 8, "block_size": 64}
    exits = tenfold.submit("layerskip.eval_exits", looked)
    train, tune, plain, tuned, exits = (finished(tenfold, job) for job in (train, tune, plain, tuned, exits))
    assert tune.result["counts_equal"]
    ids = [[output["token_ids"] for output in job.result["outputs"]] for job in (plain, tuned)]
    assert ids[0] == ids[1]
    losses = [[each["loss"] for each in job.result["exits"]] for job in (train, exits)]
    assert losses[0] == pytest.approx(losses[1])
    assert plain.timings["decode"] > 0
    tokens = [event for event in tenfold.events(plain.id) if event.type == "token"]
    text = "".join(event.data["text"] for event in tokens if event.data["prompt"] == 0)
    assert plain.result["outputs"][0]["text"].startswith(text)


def test_training_whose_worker_is_killed_gives_the_same_bytes(tenfold, cluster):
    params = SMALL | {"steps": 1_500, "seed": 3}  # long enough to be caught in the middle
    straight = finished(tenfold, tenfold.submit("layerskip.train", params))
    job = tenfold.submit("layerskip.train", params)
    eventually(lambda: (found := tenfold.job(job.id)).progress is not None and found.progress.done >= 60)
    cluster.kill_children("worker-gpu")
    again = finished(tenfold, job)
    assert again.attempt >= 2
    assert again.result == straight.result
    assert digests(again) == digests(straight)


def test_facts_are_verified_and_activations_compared(tenfold):
    facts = tenfold.submit("silu.properties", {})
    compare = tenfold.submit("silu.compare", {"seeds": 2, "epochs": 2, "hidden": 8, "lr_grid": [0.001],
                                              "datasets": ["builtin:breast_cancer"], "cost_elements": 0})  # fmt: skip
    core = tenfold.submit("silu.swiglu", {"shapes": [[4, 16]], "impl": "eager"})
    facts, compare, core = (finished(tenfold, job) for job in (facts, compare, core))
    assert facts.result["failed"] == 0
    assert len(compare.result["table"]) == 4
    assert core.result["rows"][0]["impl"] == "eager"


def test_a_bad_model_fails_without_retry_and_leaves_log_and_manifest(tenfold, tmp_path):
    (tmp_path / "model.tar").write_bytes(b"no tar")
    ref = tenfold.upload(tmp_path / "model.tar").ref
    job = tenfold.wait(tenfold.submit("layerskip.generate", {"model": ref, "prompts": ["x"]}).id, timeout_s=100)
    assert (job.state, job.error.type, job.error.retryable) == ("failed", "invalid_input", False)
    assert {artifact.name for artifact in job.artifacts} <= {"log.txt", "manifest.json", "timings.jsonl"}
    assert json.dumps(job.result) == "null"
