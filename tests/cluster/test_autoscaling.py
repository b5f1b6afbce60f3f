"""Autoscaling, played on a loaded embedded cluster: real `/v1/queues`, real workers, the manifests' formulas.

A quarter of a minute of a Kubernetes cluster is a second here; a pod is a worker process.
"""

import itertools
import os
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress

import pytest
import yaml

from services.client import Tenfold
from services.local.layout import SOURCE
from tests.autoscaling import HorizontalScaler, new_jobs
from tests.cluster.embedded import Embedded, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
FASTER = 15
MOST = 4  # pods, on a machine of two cores
CHECKPOINT_EVERY = 10  # steps of a walk
WAIT_BOUND_S = 60.0
"""p95 wait of a burst, jobs of some six seconds on four workers, where a worker is up within START_S."""
START_S = 6.0
KEDA = SOURCE / "deploy/kubernetes/components/keda/autoscaling.yaml"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, kinds_path):
    cluster = Embedded(tmp_path_factory.mktemp("scaled"), PYTHONPATH=f"{SOURCE}{os.pathsep}{kinds_path}")
    cluster.up()
    cluster.stop("worker-test")  # this pool's workers are the autoscaler's
    yield cluster
    cluster.end()


@pytest.fixture(scope="module")
def bound_s(cluster):
    """The stated bound; a machine that takes longer to start a worker takes as much longer for everything."""
    pods = Pods(cluster)
    with Tenfold(cluster.url, patience_s=30) as tenfold:
        eventually(lambda: queue(tenfold).workers == 0)
        began = time.monotonic()
        pods.start(1)
        eventually(lambda: queue(tenfold).workers == 1, 120)
        start_s = time.monotonic() - began
        pods.end()
        eventually(lambda: queue(tenfold).workers == 0)
    print(f"a worker is up after {start_s:.1f} s")
    return WAIT_BOUND_S * max(1.0, start_s / START_S)


class Pods:
    """The worker processes that stand for pods, by name."""

    def __init__(self, cluster: Embedded, *options: str) -> None:
        self._cluster, self._options = cluster, options
        self._all: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping: list[subprocess.Popen[bytes]] = []
        self._started = 0

    @property
    def alive(self) -> list[str]:
        return [name for name, pod in self._all.items() if pod.poll() is None]

    def start(self, count: int) -> None:
        for _ in range(count):
            self._started += 1
            name = f"pod-{id(self)}-{self._started}"
            command = [sys.executable, "-m", "workers", "worker", "--pool", "test", "--name", name, *self._options]
            log = (self._cluster.layout.logs / f"{name}.log").open("wb")
            environment = self._cluster.environment | {"OMP_NUM_THREADS": "1"}
            self._all[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            log.close()

    def stop(self, count: int, workers: list[str | None]) -> None:
        """Remove pods as unluckily as can be: those first that `workers` of running jobs name."""
        busy = {worker.partition("@")[0] for worker in workers if worker}
        for name in sorted(self.alive, key=lambda name: name not in busy)[: max(0, count)]:
            print(f"removed: {name}, of whom these run a job: {sorted(busy)}")
            pod = self._all.pop(name)
            pod.terminate()
            self._stopping.append(pod)

    def end(self) -> None:
        pods = [*self._all.values(), *self._stopping]
        for pod in pods:
            with suppress(ProcessLookupError):
                pod.terminate()
        for pod in pods:
            with suppress(subprocess.TimeoutExpired):
                pod.wait(40)
            if pod.poll() is None:
                pod.kill()
                pod.wait()


def queue(tenfold):
    return next(one for one in tenfold.queues() if one.pool == "test")


def burst(tenfold, jobs, steps):
    params = {"steps": steps, "step_s": 0.3}
    return [tenfold.submit("test.walk", params | {"seed": seed}, max_attempts=1).id for seed in range(jobs)]


def waits(tenfold, ids):
    """Seconds from submit to first claim, p95."""
    jobs = [tenfold.job(id) for id in ids]
    assert all(job.state == "succeeded" for job in jobs), [job.error for job in jobs]
    seconds = sorted((job.started_at - job.created_at).total_seconds() for job in jobs)
    return seconds[int(0.95 * (len(seconds) - 1))]


def repeated_steps(tenfold, id):
    """Steps that an attempt did and a later one did again."""
    steps = defaultdict(list)
    after = None
    while True:
        page = tenfold.event_page(id, after=after)
        for event in page.items:
            if event.type == "metric":
                steps[event.attempt].append(event.data["step"])
        if not page.items or page.next_after == after:
            break
        after = page.next_after
    ordered = [steps[attempt] for attempt in sorted(steps)]
    return [max(0, before[-1] - later[0] + 1) for before, later in itertools.pairwise(ordered)]


def test_a_deployment_follows_the_queue_and_handing_back_repeats_at_most_one_checkpoint_interval(cluster, bound_s):
    manifest = next(one for one in yaml.safe_load_all(KEDA.read_text()) if one["metadata"]["name"] == "worker-cpu")
    scaler, pods = HorizontalScaler.of(manifest), Pods(cluster)
    scaler.most = MOST
    pods.start(1)
    seen = []
    with Tenfold(cluster.url, patience_s=30) as tenfold:
        try:
            ids = burst(tenfold, jobs=12, steps=20)
            ids += burst(tenfold, jobs=3, steps=150)  # still runs when the others' workers are removed
            began = time.monotonic()
            while any(not tenfold.job(id).is_final for id in ids):
                now = queue(tenfold)
                wanted = scaler.step((time.monotonic() - began) * FASTER, now.desired_workers)
                seen.append((now.waiting, now.running, now.desired_workers, len(pods.alive)))
                pods.start(wanted - len(pods.alive))
                pods.stop(len(pods.alive) - wanted, [job.worker for job in tenfold.jobs(state="running")])
                time.sleep(1)
            p95 = waits(tenfold, ids)
            repeats = [count for id in ids for count in repeated_steps(tenfold, id)]
            handed_back = sum(tenfold.job(id).attempt - 1 for id in ids)
        finally:
            pods.end()
    print(f"(waiting, running, desired, pods) each second: {seen}")
    print(f"p95 wait {p95:.1f} s of {bound_s:.0f}; steps repeated after each hand-back: {repeats}")
    assert max(pods for *_, pods in seen) == MOST
    assert p95 < bound_s
    assert handed_back == len(repeats) > 0, (handed_back, "nobody was removed while it ran a job?")
    assert all(count <= CHECKPOINT_EVERY for count in repeats)


def test_a_scaled_job_starts_from_zero_and_never_removes_a_running_job(cluster, bound_s):
    pods = Pods(cluster, "--exit-when-idle", "5")
    seen = []
    with Tenfold(cluster.url, patience_s=30) as tenfold:
        try:
            eventually(lambda: queue(tenfold).workers == 0)
            ids = burst(tenfold, jobs=8, steps=20)
            while any(not tenfold.job(id).is_final for id in ids):
                now = queue(tenfold)
                seen.append((now.waiting, now.running, now.desired_workers, len(pods.alive)))
                pods.start(new_jobs(now.desired_workers, len(pods.alive), MOST))
                time.sleep(1)
            p95 = waits(tenfold, ids)
            ended = [tenfold.job(id) for id in ids]
            eventually(lambda: not pods.alive, 60)  # each ends by itself: back to zero
        finally:
            pods.end()
    print(f"(waiting, running, desired, pods) each second: {seen}")
    print(f"p95 wait {p95:.1f} s of {bound_s:.0f}")
    assert seen[0][3] == 0
    assert {(job.attempt, job.losses) for job in ended} == {(1, 0)}
    assert p95 < bound_s
