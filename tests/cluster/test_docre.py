"""DocRE transfer through all of it: HTTP, queue, parts that wait for each other, the annotation service beside."""

import json

import httpx
import pytest

from tests.cluster.embedded import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def ready(cluster):
    eventually(lambda: cluster.is_healthy("gateway", "redis", "worker-cpu", "worker-gpu", "annotation"))


def transfer(documents="builtin:docre-train", **fields):
    return {"documents": documents, "backend": "identity", "shard_size": 32, **fields}


def digest(job, name):
    return next(artifact.sha256 for artifact in job.artifacts if artifact.name == name)


def test_parts_are_merged_by_a_job_that_waits_for_them(tenfold):
    parts = [tenfold.submit("docre.transfer", transfer(part={"index": n, "count": 2})) for n in range(2)]
    merged = tenfold.submit("docre.merge", {"parts": [f"job:{part.id}" for part in parts]})
    whole = tenfold.wait(tenfold.submit("docre.transfer", transfer()).id, timeout_s=200)
    merged = tenfold.wait(merged.id, timeout_s=200)
    assert merged.state == "succeeded", merged.error
    assert digest(merged, "transferred.json") == digest(whole, "transferred.json")


def test_a_worker_killed_in_the_middle_repeats_no_finished_shard_and_changes_no_byte(cluster, tenfold, tmp_path):
    """kill -9 of the worker's child, by which the shard's own process ends too; the merge waits on."""
    whole = tenfold.submit("docre.transfer", transfer())  # other shards; copying, that changes no document
    parts = [
        tenfold.submit("docre.transfer", transfer(shard_size=4, part={"index": n, "count": 2}), max_attempts=5)
        for n in range(2)
    ]
    merged = tenfold.submit("docre.merge", {"parts": [f"job:{part.id}" for part in parts]})
    eventually(lambda: (found := tenfold.job(parts[0].id)).progress is not None and found.progress.done >= 4, 120)
    cluster.kill_children("worker-cpu")
    merged, whole = (tenfold.wait(job.id, timeout_s=250) for job in (merged, whole))
    killed = tenfold.job(parts[0].id)
    assert (merged.state, killed.state, killed.attempt) == ("succeeded", "succeeded", 2), merged.error
    for name in ("transferred.json", "provenance.jsonl", "shards.jsonl"):
        assert digest(merged, name) == digest(whole, name)
    lines = tenfold.download(killed.id, "timings.jsonl", tmp_path / "timings.jsonl").read_text().splitlines()
    shards = [entry["key"] for entry in map(json.loads, lines) if entry["name"] == "shard_cpu"]
    assert shards == [f"shard-{n:05d}.jsonl" for n in range(8)]


def test_bad_input_ends_the_job_with_document_and_field_and_nothing_half_written(tenfold, tmp_path):
    mention = {"name": "Ada", "sent_id": 0, "pos": [0, 9], "type": "PER"}
    (tmp_path / "bad.json").write_text(json.dumps([{"title": "x", "sents": [["Ada"]], "vertexSet": [[mention]]}]))
    ref = tenfold.upload(tmp_path / "bad.json").ref
    job = tenfold.wait(tenfold.submit("docre.transfer", transfer(ref)).id, timeout_s=100)
    assert (job.state, job.error.type, job.error.retryable) == ("failed", "invalid_input", False)
    assert "document 0 ('x'): vertexSet[0][0].pos: [0, 9] is outside" in job.error.message
    assert {artifact.name for artifact in job.artifacts} == {"log.txt", "manifest.json"}


def test_a_model_recommends_and_people_edit(cluster, tenfold):
    model = tenfold.submit("docre.train", {"train": "builtin:docre-train", "model": "linear", "epochs": 4})
    shown = tenfold.submit(
        "docre.recommend", {"model": f"job:{model.id}/model.tar", "documents": "builtin:docre-native"}
    )
    shown = tenfold.wait(shown.id, timeout_s=200)
    assert shown.state == "succeeded", shown.error
    url = f"http://127.0.0.1:{cluster.status()['annotation']['ports']['http']}"
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as annotation:
        body = {"documents": "builtin:docre-native", "recommendations": f"job:{shown.id}/recommendations.jsonl"}
        made = annotation.post("/v1/projects", json=body)
        assert made.status_code == 201, made.text
        events = f"/v1/projects/{made.json()['id']}/documents/0/events"
        answer = annotation.post(events, json={"version": 0, "action": "add", "h": 0, "t": 1, "r": "P777"})
        assert answer.json()["counters"]["added"] == 1
