"""DocRE transfer through all of it: HTTP, queue, parts that wait for each other, the annotation service beside."""

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


def test_a_model_recommends_and_people_edit(cluster, tenfold):
    model = tenfold.submit("docre.train", {"train": "builtin:docre-train", "epochs": 4})
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
