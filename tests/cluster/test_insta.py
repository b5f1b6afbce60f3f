"""INSTA through all of it: HTTP, queue, index, warm queries; killed in the middle of indexing."""

import json

import pytest

from services.client import Refused, Tenfold
from tests.cluster.embedded import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
SORT = "Sort this list of numbers in ascending order."


@pytest.fixture(autouse=True)
def ready(cluster):
    eventually(lambda: cluster.is_healthy("gateway", "redis", "worker-cpu", "worker-gpu"))


def finished(tenfold, kind, params):
    job = tenfold.wait(tenfold.submit(kind, params).id, timeout_s=200)
    assert job.state == "succeeded", job.error
    return job


def done_of(job):
    """Instructions encoded so far."""
    return job.progress.done if job.progress else 0


@pytest.fixture(scope="module")
def index(cluster):
    with Tenfold(cluster.url, patience_s=30) as tenfold:
        return f"job:{finished(tenfold, 'insta.index', {'library': 'builtin:tasks'}).id}/index.tar"


def test_a_query_waits_for_its_index_and_names_it_without_its_ending(tenfold):
    indexed = tenfold.submit("insta.index", {"library": "builtin:tasks", "seed": 7})
    asked = tenfold.submit("insta.query", {"index": f"job:{indexed.id}/index", "instructions": [SORT]})
    job = tenfold.wait(asked.id, timeout_s=200)
    assert job.state == "succeeded", job.error
    assert job.result["results"][0]["task_id"] == "tenfold/sort_ascending"


def test_a_worker_unpacks_an_index_once_for_all_queries(cluster, tenfold, index):
    """How fast it then answers: `./tenfold bench insta`."""
    seen = []
    for number in range(3):
        job = finished(tenfold, "insta.query", {"index": index, "instructions": [f"{SORT} {number}"]})
        assert job.result["results"][0]["task_id"] == "tenfold/sort_ascending"
        manifests = cluster.layout.data.rglob("insta/*/manifest.json")
        seen.append(
            {(path.parent.name, path.stat().st_ino) for path in manifests if (path.parent / "lines.npy").exists()}
        )
    assert seen[0]
    assert seen[0] == seen[1] == seen[2]


def test_the_same_query_gives_the_same_bytes(tenfold, index):
    first, second = (finished(tenfold, "insta.query", {"index": index, "instructions": [SORT]}) for _ in "ab")
    clocked = {"log.txt", "timings.jsonl"}
    digests = [{a.name: a.sha256 for a in job.artifacts if a.name not in clocked} for job in (first, second)]
    assert digests[0] == digests[1]
    assert first.result == second.result


def test_an_aligned_index_is_evaluated(tenfold, index):
    aligned = finished(tenfold, "insta.align", {"index": index, "steps": 20})
    measured = finished(
        tenfold, "insta.evaluate", {"index": f"job:{aligned.id}/index.tar", "methods": ["insta", "bm25"]}
    )
    assert {figures["method"] for figures in measured.result["figures"]} == {"insta", "bm25"}


def test_a_bad_library_fails_with_its_line_and_leaves_log_and_manifest(tenfold, tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(
        b'{"id": "a", "instructions": ["Sort."]}\n{"id": "b", "instructions": ["\xe4"]}\n'
    )
    job = tenfold.submit("insta.index", {"library": tenfold.upload(tmp_path / "bad.jsonl").ref})
    job = tenfold.wait(job.id, timeout_s=100)
    assert (job.state, job.error.type, job.error.retryable) == ("failed", "invalid_input", False)
    assert "line 2 is not UTF-8" in job.error.message
    assert {artifact.name for artifact in job.artifacts} == {"log.txt", "manifest.json"}


def test_bad_params_are_refused_with_their_field(tenfold, index):
    with pytest.raises(Refused, match="exactly one of instructions, task_id and queries"):
        tenfold.submit("insta.query", {"index": index})


def test_killed_while_indexing_and_taken_up_again_the_index_is_the_same(cluster, tenfold, tmp_path):
    words = ("river", "stone", "cloud", "forest", "meadow", "island")
    lines = [json.dumps({"id": f"t{n}", "instructions": [f"Write {n} words of a {words[n % 6]}. " * (n % 5 + 2)]})
             for n in range(1_300)]  # fmt: skip
    (tmp_path / "library.jsonl").write_text("\n".join(lines))
    ref = tenfold.upload(tmp_path / "library.jsonl").ref
    job = tenfold.submit("insta.index", {"library": ref}, max_attempts=5)
    eventually(lambda: done_of(tenfold.job(job.id)) > 600, within_s=120)
    cluster.kill_children("worker-cpu")
    resumed = tenfold.wait(job.id, timeout_s=250)
    assert (resumed.state, resumed.attempt) == ("succeeded", 2)
    whole = finished(tenfold, "insta.index", {"library": ref})
    digest = [next(a.sha256 for a in each.artifacts if a.name == "index.tar") for each in (resumed, whole)]
    assert digest[0] == digest[1]
