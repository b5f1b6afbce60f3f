"""Kill anything, anywhere: every job succeeds, is committed once, and leaves the same bytes as an undisturbed run."""

import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.client import Job, Tenfold
from tests.chaos.killer import Killer, describe, recoveries
from tests.cluster.embedded import SOURCE, Embedded, eventually

CLOCKED = frozenset({"log.txt", "timings.jsonl"})  # tell of clock and attempts by design
MAX_ATTEMPTS = 100
SEED = 20240417


@dataclass(frozen=True)
class Size:
    jobs: int
    kills: int
    steps: int  # of a walk, half a second each
    runs: int  # of a scripted society of 100 agents over 100 months
    forced: int  # jobs that die between their last phase and the commit; as many right after it
    resumed: int  # jobs that must have needed a second attempt


SMALL = Size(jobs=10, kills=5, steps=16, runs=60, forced=1, resumed=2)
STATED = Size(jobs=60, kills=40, steps=44, runs=900, forced=5, resumed=20)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, kinds_path: Path) -> Iterator[Embedded]:
    """One for all: after each experiment it must be a working cluster again."""
    folder = tmp_path_factory.mktemp("cluster")
    embedded = Embedded(folder, TENFOLD_SLOTS='{"test": 6, "sim": 1}', PYTHONPATH=f"{SOURCE}:{kinds_path}")
    embedded.up()
    yield embedded
    embedded.end()


@pytest.mark.cluster
@pytest.mark.timeout(240)
def test_ten_jobs_survive_five_kills(cluster: Embedded) -> None:
    survive(cluster, SMALL)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_sixty_jobs_survive_forty_kills(cluster: Embedded) -> None:
    survive(cluster, STATED)


def survive(cluster: Embedded, size: Size) -> None:
    """The whole experiment: references undisturbed, then the same jobs, submitted while processes are killed."""
    with Tenfold(cluster.url) as client:
        client.patience_s = 60
        plan = planned(size)
        expected = undisturbed(client, plan)
        killer = Killer(cluster, random.Random(SEED))
        ids: dict[str, Planned] = {}
        submitting = threading.Thread(target=submit_all, args=(client, plan, size, ids))
        submitting.start()
        kill_while_running(client, killer, ids, size.kills)
        submitting.join(timeout=120)
        assert len(ids) == size.jobs
        jobs = {job_id: client.wait(job_id, timeout_s=600) for job_id in ids}
        report(client, killer, jobs)
        assert len(killer.kills) == size.kills
        assert {job.state for job in jobs.values()} == {"succeeded"}
        assert sum(job.attempt >= 2 for job in jobs.values()) >= size.resumed
        for job_id, planned_as in ids.items():
            found = leavings(client, jobs[job_id], planned_as.die)
            assert found == expected[planned_as.key], f"{job_id} differs from an undisturbed {planned_as.key}"
            assert committed_once(client, job_id)
        assert_died_where_they_should(client, jobs, ids)


@dataclass(frozen=True)
class Planned:
    """What a submitted job is: one of the different jobs, and where it kills itself."""

    key: str
    die: str = "never"


def submit_all(client: Tenfold, plan: dict[str, Any], size: Size, ids: dict[str, Planned]) -> None:
    """Submit every job, a few a second, while the killing goes on; a submit that was accepted is in `ids`."""
    forced = [Planned("walk-0", die) for die in ("before_commit", "after_commit") for _ in range(size.forced)]
    free = size.jobs - len(forced)
    plain = [Planned(key) for key in plan for _ in range(-(-free // len(plan)))][:free]
    for planned_as in [*forced, *plain]:
        kind, params = plan[planned_as.key]
        changed = params if planned_as.die == "never" else {**params, "die": planned_as.die}
        ids[submit(client, kind, changed)] = planned_as
        time.sleep(0.2)


def assert_died_where_they_should(client: Tenfold, jobs: dict[str, Job], ids: dict[str, Planned]) -> None:
    """Who died before the commit needed another attempt; who died after it was committed by the attempt that died."""
    for job_id, planned_as in ids.items():
        if planned_as.die == "before_commit":
            assert jobs[job_id].attempt >= 2
        if planned_as.die == "after_commit":
            claims = [event for event in client.events(job_id) if event.data.get("state") == "running"]
            assert len(claims) == jobs[job_id].attempt


def planned(size: Size) -> dict[str, tuple[str, dict[str, Any]]]:
    """The different jobs, by name."""
    walk: dict[str, Any] = {"steps": size.steps, "step_s": 0.5}
    society: dict[str, Any] = {"agents": 100, "months": 100, "runs": size.runs, "capacity": 2000, "start": 2000}
    society["policies"] = {"type": "random", "low": 0, "high": 20}
    plan: dict[str, tuple[str, dict[str, Any]]] = {
        f"walk-{seed}": ("test.walk", {**walk, "seed": seed}) for seed in range(4)
    }
    plan["society"] = ("govsim.simulate", society)
    return plan


def submit(client: Tenfold, kind: str, params: dict[str, Any]) -> str:
    return client.submit(kind, params, max_attempts=MAX_ATTEMPTS).id


def undisturbed(client: Tenfold, plan: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What each of the different jobs leaves when nobody is killed."""
    ids = {key: submit(client, kind, params) for key, (kind, params) in plan.items()}
    jobs = {key: client.wait(job_id, timeout_s=180) for key, job_id in ids.items()}
    assert {(job.state, job.attempt) for job in jobs.values()} == {("succeeded", 1)}
    return {key: leavings(client, job) for key, job in jobs.items()}


def leavings(client: Tenfold, job: Job, die: str = "never") -> dict[str, Any]:
    """Result and the digest of every artifact. The manifest of a job that kills itself names that among its params."""
    digests: dict[str, Any] = {a.name: a.sha256 for a in job.artifacts if a.name not in CLOCKED}
    if job.kind == "test.walk":
        with tempfile.TemporaryDirectory() as folder:
            manifest = json.loads(client.download(job.id, "manifest.json", Path(folder) / "manifest.json").read_text())
        assert manifest["params"].pop("die") == die
        digests["manifest.json"] = manifest
    return {"result": job.result, **digests}


def kill_while_running(client: Tenfold, killer: Killer, ids: dict[str, Planned], kills: int) -> None:
    """Kill every few seconds until so many processes are dead; jobs must still be unfinished all the while."""
    eventually(lambda: len(ids) >= 2)
    for role in killer.schedule(kills):
        eventually(lambda role=role: killer.kill_one(role))  # type: ignore[misc]
        time.sleep(killer.rng.uniform(2.0, 5.0))
    unfinished = [job_id for job_id in list(ids) if not client.job(job_id).is_final]
    assert unfinished or kills < 10, "the jobs were over before the kills were"


def committed_once(client: Tenfold, job_id: str) -> bool:
    """Its stream tells of exactly one end, and nothing after it."""
    states = [event.data["state"] for event in client.events(job_id) if event.type == "state"]
    return states.count("succeeded") == 1 and states[-1] == "succeeded"


def report(client: Tenfold, killer: Killer, jobs: dict[str, Job]) -> None:
    turns = []
    for job_id in jobs:
        states = [event for event in client.events(job_id) if event.type == "state"]
        turns.append([(event.data["state"], int(event.id.partition("-")[0]) / 1000) for event in states])
    by_role = recoveries(killer.kills, turns)
    everything = [seconds for times in by_role.values() for seconds in times]
    attempts = sorted((job.attempt for job in jobs.values()), reverse=True)
    print(f"\nkilled: {killer.summary()}")
    print(f"attempts: {sum(n >= 2 for n in attempts)} of {len(attempts)} jobs needed a second; most {attempts[0]}")
    print(f"from a kill to the job's return to its queue: {describe(everything)}")
    for role, times in sorted(by_role.items()):
        print(f"  {role}: {describe(times)}")


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_the_jobs_of_a_lost_machine_run_elsewhere_when_their_lease_has_run_out(cluster: Embedded) -> None:
    with Tenfold(cluster.url) as client, cluster.extra_worker("test", "elsewhere") as lost:
        cluster.stop("worker-test")  # the only one that could take it
        job = client.submit("test.walk", {"steps": 40, "step_s": 0.25}, max_attempts=5)
        eventually(lambda: (client.job(job.id).worker or "").startswith("elsewhere@"))
        cluster.start("worker-test")
        killed = time.time()
        lost.kill_tree()
        eventually(lambda: (client.job(job.id).worker or "").startswith("test@"))
        print(f"\nfrom the loss of the machine to the next claim: {time.time() - killed:.1f} s")
        assert client.wait(job.id, timeout_s=60).state == "succeeded"


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_a_stopping_worker_hands_its_job_back_and_no_loss_is_counted(cluster: Embedded, tmp_path: Path) -> None:
    with Tenfold(cluster.url) as client, cluster.extra_worker("test", "elsewhere") as other:
        cluster.stop("worker-test")
        job = client.submit("test.walk", {"steps": 60, "step_s": 0.2})
        eventually(lambda: (client.job(job.id).progress or _NO_PROGRESS).done > 12)
        cluster.start("worker-test")
        eventually(lambda: sum(q.workers for q in client.queues() if q.pool == "test") == 2)
        asked = time.time()
        other.terminate()
        eventually(lambda: (client.job(job.id).worker or "").startswith("test@"))
        print(f"\nfrom SIGTERM to the next claim: {time.time() - asked:.1f} s")
        progress = [e.data["done"] for e in client.events(job.id) if e.type == "progress" and e.attempt == 2]
        assert progress[0] > 10, "the second attempt started from zero"
        ended = client.job(job.id)
        assert (ended.state, ended.attempt, ended.losses) == ("succeeded", 2, 0)
        trace = client.download(job.id, "trace.jsonl", tmp_path / "trace.jsonl").read_text().splitlines()
        assert len(trace) == 60


class _NoProgress:
    done = 0


_NO_PROGRESS = _NoProgress()
