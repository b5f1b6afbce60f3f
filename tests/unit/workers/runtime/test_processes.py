"""A job's process group dies with it, and nobody else."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from workers.runtime.processes import end_group

SLEEP = "import time; time.sleep(60)"
LEADER = f"""
import subprocess, sys, time
children = [subprocess.Popen([sys.executable, "-c", {SLEEP!r}]) for _ in range(2)]
print(*(child.pid for child in children), flush=True)
time.sleep(60)
"""


def start_group(job_id: str) -> tuple["subprocess.Popen[str]", list[int]]:
    """A leader with two subprocesses, as a worker's child with a job."""
    environment = {**os.environ, "TENFOLD_WORKER": "test@here", "TENFOLD_JOB": job_id}
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert leader.stdout is not None
    return leader, [int(pid) for pid in leader.stdout.readline().split()]


def finish(leader: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()
    assert leader.stdout is not None
    leader.stdout.close()


def gone(pid: int) -> bool:
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_the_whole_group_of_a_job_is_killed() -> None:
    leader, children = start_group("JOB-A")
    assert end_group(leader.pid, "JOB-A") == 3
    assert all(gone(pid) for pid in (leader.pid, *children))
    finish(leader)


def test_one_that_is_just_beginning_another_program_is_killed_too(monkeypatch) -> None:
    leader, children = start_group("JOB-E")
    read, beginning = Path.read_bytes, {str(children[0]): 3}

    def shows_nothing_at_first(path: Path) -> bytes:
        if beginning.get(path.parent.name, 0) and path.name == "environ":
            beginning[path.parent.name] -= 1
            return b""
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", shows_nothing_at_first)
    assert end_group(leader.pid, "JOB-E") == 3
    assert all(gone(pid) for pid in (leader.pid, *children))
    finish(leader)


def test_what_a_killed_leader_left_behind_is_killed() -> None:
    leader, children = start_group("JOB-B")
    leader.kill()
    leader.wait()
    assert end_group(leader.pid, "JOB-B") == 2
    assert all(gone(pid) for pid in children)
    finish(leader)


def test_another_jobs_subprocesses_are_left_alone_even_under_the_same_number() -> None:
    leader, children = start_group("JOB-C")
    leader.kill()
    leader.wait()
    assert end_group(leader.pid, "JOB-D") == 0
    assert not any(gone(pid) for pid in children[:1])
    finish(leader)


def test_the_own_group_is_never_killed() -> None:
    assert end_group(os.getpgid(0), "JOB-E") == 0
