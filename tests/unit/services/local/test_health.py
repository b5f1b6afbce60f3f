"""What `./tenfold status` says of a process: healthy, starting or unhealthy, and why."""

import os
import time
from pathlib import Path

import pytest

from services.local import health
from services.local.layout import Layout
from services.local.programs import Program, programs
from services.local.supervisor import ProcessState
from shared.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


@pytest.fixture
def worker(settings: Settings) -> Program:
    return next(p for p in programs(settings, Layout(settings.data), redteam=False) if p.name == "worker-cpu")


@pytest.fixture
def alive(settings: Settings, worker: Program) -> Path:
    """The file that the worker touches each round."""
    assert worker.alive is not None
    path = settings.data / "run" / worker.alive
    path.parent.mkdir(exist_ok=True)
    return path


def running(started: float) -> ProcessState:
    return ProcessState("worker-cpu", "workers", "RUNNING", 4711, "pid 4711, uptime 0:00:09", started)


def touch(path: Path, age_s: float) -> None:
    path.touch()
    os.utime(path, (time.time() - age_s,) * 2)


def test_a_worker_that_does_its_rounds_is_healthy(settings, worker, alive):
    touch(alive, 1)
    line = health.check(worker, running(time.time() - 100), settings)
    assert (line.word, line.pid, line.says) == ("healthy", 4711, "uptime 0:00:09")


@pytest.mark.parametrize(
    ("started_s_ago", "round_s_ago", "word", "says"),
    [
        pytest.param(5, None, "starting", "has not done its first round yet", id="no-round-yet"),
        pytest.param(5, 9, "starting", "has not done its first round yet", id="the-file-is-of-the-one-before"),
        pytest.param(100, None, "unhealthy", "has not done its first round yet", id="never-a-round"),
        pytest.param(100, 40, "unhealthy", "did its last round 40 s ago", id="silent"),
    ],
)
def test_a_worker_without_rounds_is_starting_for_a_while_and_then_unhealthy(
    settings, worker, alive, started_s_ago, round_s_ago, word, says
):
    if round_s_ago is not None:
        touch(alive, round_s_ago)
    line = health.check(worker, running(time.time() - started_s_ago), settings)
    assert (line.word, line.is_healthy) == (word, False)
    assert says in line.says


def test_a_program_that_supervisord_gave_up_is_unhealthy_with_its_words(settings, worker):
    gave_up = ProcessState("worker-cpu", "workers", "FATAL", 0, "Exited too quickly", time.time())
    line = health.check(worker, gave_up, settings)
    assert (line.word, line.pid, line.says) == ("unhealthy", None, "fatal: Exited too quickly")


def test_a_process_left_by_a_killed_supervisord_is_listed_with_its_health(settings, worker, alive):
    touch(alive, 1)
    line = health.check_orphan(worker, 4711, settings)
    assert (line.word, line.pid, line.says) == ("healthy", 4711, "up, without supervisord")
