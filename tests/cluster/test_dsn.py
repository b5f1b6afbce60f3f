"""DSN through all of it: HTTP, guards, queue, encrypted checkpoints; killed in the middle of a search."""

import pytest

from services.client import Refused, Tenfold
from tests.cluster.embedded import Embedded, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
AUTHORISATION = {"owner": "lab", "purpose": "test", "ticket": "T-1", "expires": "2999-12-31"}
NO_DEFENCES = {"perplexity": None, "smoothllm": None, "erase_and_check": None}


def attack(**changes):
    params = {
        "model": "allowed:colours", "behaviours": "builtin:colours", "authorisation": AUTHORISATION,
        "judges": [{"name": "keyword", "type": "keyword"}, {"name": "exact", "type": "exact"}],
        "suffix_init": "! ! ! ! ! !", "n_steps": 6, "batch_size": 24, "topk": 48, "n_train": 3, "n_test": 4,
        "n_benign": 2, "test_steps": 3, "eval_max_new_tokens": 32, "objective": "dsn", "defences": NO_DEFENCES,
    }  # fmt: skip
    return params | changes


@pytest.fixture(scope="module")
def redteam(tmp_path_factory):
    """A cluster whose switch is on."""
    cluster = Embedded(tmp_path_factory.mktemp("redteam"))
    assert cluster.run("up", "--redteam").returncode == 0
    eventually(lambda: cluster.is_healthy("gateway", "redis", "worker-gpu"), within_s=60)
    yield cluster
    cluster.end()


@pytest.fixture(scope="module")
def tenfold(redteam):
    with Tenfold(redteam.url, patience_s=30) as tenfold:
        tenfold.admin.allow_model("colours", "builtin:colours")
        tenfold.admin.allow_model("other", "builtin:colours-2")
        yield tenfold


def finished(tenfold, kind, params):
    job = tenfold.wait(tenfold.submit(kind, params).id, timeout_s=200)
    assert job.state == "succeeded", job.error
    return job


def digests(job):
    return {a.name: a.sha256 for a in job.artifacts if a.name not in ("log.txt", "timings.jsonl")}


def test_up_makes_a_key_that_only_its_owner_reads(redteam):
    key = redteam.layout.redteam_key
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_text().strip()) == 64


def test_an_evaluation_is_transferred_opened_by_its_key_and_on_record(redteam, tenfold, tmp_path):
    job = finished(tenfold, "dsn.evaluate", attack(reveal=True))
    assert job.result["sealed"]
    moved = attack(model="allowed:other", suffixes=f"job:{job.id}/suffixes")
    for name in ("suffix_init", "n_steps", "batch_size", "topk", "n_train", "test_steps", "objective", "defences"):
        del moved[name]
    assert finished(tenfold, "dsn.transfer", moved).result["asr"]["dsn"]["test"]["exact"]["n"] == 4
    assert redteam.run("get", job.id, "revealed.enc", "-o", str(tmp_path), module="services.cli").returncode == 0
    opened = redteam.run("redteam", "open", str(tmp_path / "revealed.enc"), "--key", str(redteam.layout.redteam_key),
                         module="services.cli")  # fmt: skip
    assert '"jailbreaks"' in opened.stdout
    actions = [(entry.action, entry.detail) for entry in tenfold.admin.audit()]
    assert any(action == "reveal" and job.id in detail for action, detail in actions)
    assert any(action == "ended" and job.id in detail and '"answers"' in detail for action, detail in actions)
    assert tenfold.admin.verify_audit().ok


def test_killed_while_searching_and_taken_up_again_the_card_is_the_same(redteam, tenfold):
    params = attack(n_steps=120, test_steps=60)
    job = tenfold.submit("dsn.evaluate", params, max_attempts=5)

    def done():
        progress = tenfold.job(job.id).progress
        return progress.done if progress else 0

    eventually(lambda: done() > 45, within_s=120)
    redteam.kill_children("worker-gpu")
    resumed = tenfold.wait(job.id, timeout_s=250)
    assert (resumed.state, resumed.attempt) == ("succeeded", 2)
    whole = finished(tenfold, "dsn.evaluate", params)
    assert resumed.result == whole.result
    assert digests(resumed) == digests(whole)


def test_other_weights_than_were_allowed_fail_the_job_before_they_load(redteam, tenfold):
    swapped = redteam.layout.data / "builtin" / "swapped"
    shipped = tenfold.admin.allow_model("colours", "builtin:colours")
    assert len(shipped.digest) == 64
    swapped.mkdir(parents=True)
    (swapped / "config.json").write_text("{}")
    tenfold.admin.allow_model("swapped", "builtin:swapped")
    (swapped / "model.safetensors").write_bytes(b"other weights")
    job = tenfold.wait(tenfold.submit("dsn.evaluate", attack(model="allowed:swapped")).id, timeout_s=100)
    assert (job.state, job.error.type, job.error.retryable) == ("failed", "invalid_input", False)
    assert "was allowed" in job.error.message
    assert {artifact.name for artifact in job.artifacts} == {"log.txt", "manifest.json"}


def test_a_model_outside_the_list_and_a_second_attack_are_refused(tenfold):
    with pytest.raises(Refused, match=r"it has: .*colours"):
        tenfold.submit("dsn.evaluate", attack(model="allowed:nobody"))
    running = tenfold.submit("dsn.evaluate", attack(n_steps=2000))
    with pytest.raises(Refused, match="one at a time"):
        tenfold.submit("dsn.evaluate", attack())
    tenfold.cancel(running.id)
    assert tenfold.wait(running.id, timeout_s=60).state == "cancelled"
