"""A society of language models on the cluster: its worker dies, and no stored reply is asked again."""

import random
from types import SimpleNamespace

import pytest

from services.client import Tenfold
from tests.chaos.killer import Killer
from tests.cluster.embedded import Embedded, eventually
from tests.openai_server import OpenAIServer
from tests.unit.workers.govsim.endpoint_process import endpoints_file
from tests.unit.workers.govsim.scripted import MODEL, society_script

SOCIETY = {"policies": {"type": "llm", "model": MODEL}, "runs": 2, "months": 2}
CLOCKED = frozenset({"log.txt", "timings.jsonl"})
IN_FLIGHT = 4


def scripted(request):
    return society_script(utterances=6)(SimpleNamespace(key=request.key))


@pytest.mark.cluster
@pytest.mark.chaos
@pytest.mark.slow
def test_a_talking_society_loses_its_worker_and_leaves_the_same_bytes(tmp_path):
    with OpenAIServer(scripted, delay_s=0.1) as server:
        endpoints = endpoints_file(tmp_path, server.url, max_in_flight=IN_FLIGHT)
        cluster = Embedded(tmp_path, TENFOLD_ENDPOINTS=str(endpoints))
        try:
            cluster.up()
            with Tenfold(cluster.url, patience_s=60) as client:
                expected = leavings(finished(client, client.submit("govsim.simulate", SOCIETY).id))
                server.counts.clear()
                job = client.submit("govsim.simulate", SOCIETY)
                eventually(lambda: sum(server.counts.values()) > 60)
                assert Killer(cluster, random.Random(0)).kill_one("child")
                killed = finished(client, job.id)
                assert killed.attempt == 2
                assert different(leavings(killed), expected) == []
        finally:
            cluster.end()
        repeated = sum(count - 1 for count in server.counts.values())
        assert repeated <= IN_FLIGHT


def finished(client, job_id):
    """The job, once it has succeeded."""
    job = client.wait(job_id, timeout_s=120)
    assert job.state == "succeeded", job
    return job


def different(one, other):
    """What two jobs left that is not the same: `result`, and the names of artifacts."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def leavings(job):
    """Result and digests of the artifacts."""
    return {"result": job.result} | {one.name: one.sha256 for one in job.artifacts if one.name not in CLOCKED}
