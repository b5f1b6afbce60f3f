"""The thread in a worker's main process that answers for its children."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from shared.jobs.states import JobState
from shared.jobs.store import Worker
from shared.jobs.workers import GpuMemory, WorkerList
from shared.settings import Settings
from tests.unit.workers.runtime.conftest import Bench
from workers.runtime.gpus import _library, gpu_memory
from workers.runtime.warden import Warden

NOBODY = 2**22 + 1  # a pid that can't be


def nvml_without_driver() -> Any:
    """NVIDIA's library as it is where there is no driver; no machine of the tests has a GPU."""

    class NVMLError(Exception):
        pass

    def fail(*_: object) -> None:
        raise NVMLError("Driver Not Loaded")

    return SimpleNamespace(NVMLError=NVMLError, nvmlInit=fail, fail=fail)


@pytest.fixture
def warden(bench: Bench) -> Warden:
    settings = bench.runtime.settings.model_copy(update={"cancel_grace_s": 0.05, "stop_grace_s": 0.05})
    made = Warden(bench.runtime.worker.name, "test", 2, settings, bench.store)
    made._alive_file.parent.mkdir(parents=True, exist_ok=True)
    return made


def held(bench: Bench, pid: int = NOBODY) -> str:
    """A job that this worker holds, by default in a child that is gone."""
    job_id = bench.submit("test.noop", {})
    assert bench.store.claim(job_id, 1, replace(bench.runtime.worker, pid=pid)) is not None
    return job_id


def test_a_worker_that_starts_returns_what_one_of_its_name_held(bench: Bench, warden: Warden) -> None:
    job_id = held(bench)
    warden.round()
    record = bench.store.get(job_id)
    assert (record.state, record.losses) == (JobState.QUEUED, 1)


def test_a_living_childs_job_is_left_alone_and_a_dead_childs_is_returned(bench: Bench, warden: Warden) -> None:
    child = subprocess.Popen(["sleep", "60"])
    job_id = held(bench, child.pid)
    warden.round()
    assert bench.store.get(job_id).state is JobState.RUNNING
    child.kill()
    warden.round()  # a zombie by now, or about to be one
    child.wait()
    warden.round()
    assert bench.store.get(job_id).state is JobState.QUEUED


def test_a_job_that_another_worker_took_over_is_left_to_it(bench: Bench, warden: Warden) -> None:
    job_id = held(bench)
    bench.store.lose(job_id, 1)
    assert bench.store.claim(job_id, 2, Worker("other@here", NOBODY)) is not None
    warden.round()
    assert bench.store.get(job_id).state is JobState.RUNNING


def test_a_round_announces_the_worker_and_touches_the_liveness_file(bench: Bench, warden: Warden) -> None:
    warden.round()
    status = WorkerList(bench.store).status("test")
    assert (status.workers, status.slots) == (1, 2)
    assert Path(warden._alive_file).exists()


def test_a_worker_that_leaves_is_off_the_list(bench: Bench, warden: Warden) -> None:
    warden.round()
    warden.leave()
    assert WorkerList(bench.store).status("test").workers == 0


@pytest.mark.parametrize("why", ["cancel", "stop"])
def test_a_job_that_does_not_heed_is_killed_after_its_grace(bench: Bench, warden: Warden, why: str) -> None:
    job_id = held(bench)
    if why == "cancel":
        bench.store.cancel(job_id)
    else:
        warden.stopping()
    time.sleep(0.1)
    assert warden._reason_to_kill(bench.store.get(job_id)) is not None


def test_a_job_that_runs_in_peace_is_not_killed(bench: Bench, warden: Warden) -> None:
    assert warden._reason_to_kill(bench.store.get(held(bench))) is None


def test_settings_of_the_graces_have_the_promised_defaults() -> None:
    assert (Settings().cancel_grace_s, Settings().stop_grace_s) == (10.0, 25.0)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals that a warden sends to its own process."""
    sent: list[int] = []
    real = os.kill
    own = os.getpid()
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number) if pid == own else real(pid, number))
    return sent


def test_a_worker_that_was_idle_for_long_enough_stops_once_and_leaves_the_list(bench, warden, stopped) -> None:
    warden.exit_when_idle_s = 0.05
    warden.round()
    assert stopped == []
    time.sleep(0.06)
    warden.round()
    warden.round()
    assert stopped == [signal.SIGTERM]


def test_a_worker_with_a_job_is_not_idle_however_long_it_takes(bench, warden, stopped) -> None:
    child = subprocess.Popen(["sleep", "60"])
    warden.exit_when_idle_s = 0.05
    held(bench, child.pid)
    warden.round()
    time.sleep(0.06)
    warden.round()
    child.kill()
    child.wait()
    assert stopped == []


def test_a_worker_that_is_still_starting_is_not_idle_while_jobs_wait_in_its_pool(bench, warden, stopped) -> None:
    bench.submit("test.noop", {})
    warden.exit_when_idle_s = 0.05
    warden.round()
    time.sleep(0.06)
    warden.round()
    assert stopped == []


def test_a_worker_that_was_not_told_so_stays_when_idle(warden, stopped) -> None:
    warden._idle_since -= 10_000
    warden.round()
    assert stopped == []


def test_a_worker_that_cannot_reach_its_store_leaves_no_sign_of_life(warden, monkeypatch) -> None:
    """Kubernetes restarts it then; a busy one keeps doing its rounds."""

    def away(_: str) -> list[str]:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(warden.store, "held_by", away)
    with pytest.raises(redis.ConnectionError):
        warden.round()
    assert not warden._alive_file.exists()


def test_a_worker_tells_its_gpus_memory(bench: Bench, warden: Warden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.runtime.warden.gpu_memory", lambda: [GpuMemory(1, 2)])
    warden.round()
    assert WorkerList(bench.store).gpus("test") == {warden.name: [(1, 2)]}
    warden.leave()
    assert WorkerList(bench.store).gpus("test") == {}


@pytest.mark.parametrize("pynvml", [None, nvml_without_driver()], ids=["no-package", "no-driver"])
def test_a_machine_without_gpus_tells_of_none(pynvml: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    _library.cache_clear()
    assert gpu_memory() == []
    _library.cache_clear()


def test_gpus_are_told_in_their_order_and_a_lost_one_stops_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    library = nvml_without_driver()
    library.nvmlInit = lambda: None
    library.nvmlDeviceGetCount = lambda: 2
    library.nvmlDeviceGetHandleByIndex = lambda index: index
    library.nvmlDeviceGetMemoryInfo = lambda device: SimpleNamespace(used=device + 1, total=80)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    _library.cache_clear()
    assert gpu_memory() == [GpuMemory(1, 80), GpuMemory(2, 80)]
    library.nvmlDeviceGetCount = library.fail
    assert gpu_memory() == []
    _library.cache_clear()
