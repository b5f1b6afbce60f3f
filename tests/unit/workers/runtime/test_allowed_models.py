"""Models of the red-team list on a worker: pinned weights, sealed inputs that don't stay, the trail's last word."""

import hashlib
import json

import pytest

from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from shared.jobs.redteam import Redteam
from shared.jobs.references import Ref
from shared.jobs.weights import weight_digest
from tests.unit.workers.runtime.test_claim_context import attempt

MODEL = Ref("allowed:mine")
FILE = "file:" + "a" * 64


@pytest.fixture
def folder(bench, tmp_path):
    """A model folder that jobs made, as `builtin:made`."""
    made = tmp_path / "data" / "builtin" / "made"
    made.mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "notes.md"):
        (made / name).write_text(name)
    return made


@pytest.fixture
def allowed(bench, folder):
    Redteam(bench.store).allow("mine", "builtin:made", "ann", weight_digest(folder))


def test_a_model_of_the_list_is_fetched_with_its_digest(bench, folder, allowed):
    found = bench.runtime.inputs().fetch(MODEL)
    assert (found.path, found.sha256) == (folder, weight_digest(folder))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_other_weights_tokenizer_or_template_than_were_allowed_are_refused(bench, folder, allowed, name):
    (folder / name).write_text("something else")
    with pytest.raises(InvalidInput, match=r"builtin:made have the digest .* was allowed; an admin allows"):
        bench.runtime.inputs().fetch(MODEL)


def test_a_file_put_beside_them_or_renamed_is_noticed_and_a_note_is_not(bench, folder, allowed):
    (folder / "notes.md").write_text("other notes")
    bench.runtime.inputs().fetch(MODEL)
    (folder / "adapter.safetensors").write_text("more")
    with pytest.raises(InvalidInput, match="was allowed"):
        bench.runtime.inputs().fetch(MODEL)
    (folder / "adapter.safetensors").unlink()
    (folder / "tokenizer.json").rename(folder / "tokenizer2.json")
    with pytest.raises(InvalidInput, match="was allowed"):
        bench.runtime.inputs().fetch(MODEL)


def test_a_model_taken_off_the_list_meanwhile_is_refused_with_the_list(bench, allowed):
    Redteam(bench.store).remove("mine", "ann")
    with pytest.raises(InvalidInput, match="not on the red-team list; it has: nothing"):
        bench.runtime.inputs().fetch(MODEL)


def test_a_list_entry_that_leads_to_another_entry_leads_nowhere(bench, allowed):
    Redteam(bench.store).allow("round", "secret:key", "ann", "d" * 64)
    with pytest.raises(InvalidInput):
        bench.runtime.inputs().fetch(Ref("allowed:round"))


def test_a_sealed_input_goes_with_its_attempt_and_stays_in_no_cache(bench, tmp_path):
    first = bench.run("test.walk", {"steps": 1})
    listed = json.loads(first.artifacts)
    bench.artifacts.put_bytes(f"jobs/{first.id}/{first.prefix}/suffixes.enc", b"sealed")
    digest = hashlib.sha256(b"sealed").hexdigest()
    listed.append({"name": "suffixes.enc", "media_type": "x", "bytes": 6, "sha256": digest})
    bench.store.redis.hset(f"tf:job:{first.id}", "artifacts", json.dumps(listed))
    job_id = bench.submit("test.walk", {"steps": 1}, max_attempts=50)
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        path = ctx.input(Ref(f"job:{first.id}/suffixes.enc"))
        assert path.read_bytes() == b"sealed"
        assert ctx.work_dir in path.parents
    cached = [file.read_bytes() for file in (tmp_path / "data" / "cache").rglob("*") if file.is_file()]
    assert b"sealed" not in cached


def test_how_a_red_team_job_ended_is_on_record_with_counts_and_no_text(bench, tmp_path):
    rows = "".join(json.dumps({"goal": "g", "response": "a quite particular answer"}) + "\n" for _ in range(3))
    (tmp_path / "r.jsonl").write_text(rows)
    digest = hashlib.sha256(rows.encode()).hexdigest()
    bench.artifacts.put_file(f"files/{digest}", tmp_path / "r.jsonl")
    bench.store.redis.hset(f"tf:file:{digest}", mapping={"bytes": len(rows), "media_type": "x"})
    params = {"responses": f"file:{digest}", "judges": [{"name": "keyword", "type": "keyword"}]}
    job = bench.run("dsn.judge", params)
    assert job.state == "succeeded", job.error
    entry = Redteam(bench.store).audit()[-1]
    assert (entry.owner, entry.action) == ("local", "ended")
    assert entry.detail == f'dsn.judge {job.id} succeeded {{"items": 3}}'
    assert Redteam(bench.store).verify() == (1, None)


def test_without_a_cluster_the_stand_ins_are_found_and_other_models_are_what_the_caller_says(tmp_path, folder):
    ctx = LocalContext(tmp_path / "out", inputs={MODEL: folder})
    assert ctx.input(Ref("allowed:colours")).name == "model"
    assert ctx.input_digest(MODEL) == weight_digest(folder)
    with pytest.raises(InvalidInput):
        ctx.input(Ref("allowed:minilm"))


def test_an_authorisation_that_expired_while_the_job_waited_runs_nothing(bench, allowed):
    params = {
        "model": "allowed:mine", "behaviours": "builtin:colours",
        "authorisation": {"owner": "lab", "purpose": "p", "ticket": "T-1", "expires": "2999-01-01"},
    }  # fmt: skip
    job_id = bench.submit("dsn.evaluate", params)
    stored = json.loads(bench.store.redis.hget(f"tf:job:{job_id}", "params"))
    stored["authorisation"]["expires"] = "2020-01-01"
    bench.store.redis.hset(f"tf:job:{job_id}", "params", json.dumps(stored))
    job = bench.deliver(job_id)
    assert (job.state, job.error.retryable) == ("failed", False)
    assert "expired on 2020-01-01" in job.error.message
    assert "have it renewed" in job.error.message
