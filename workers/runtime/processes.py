"""Process groups: a job's child process leads one, and everything the job started dies with it."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

BEGINNING_MS = 50
"""How long a process may take from one program to the next."""


def lead_group() -> None:
    """Make this process the leader of a group of its own."""
    if os.getpgid(0) != os.getpid():
        os.setpgid(0, 0)


def end_group(leader: int, job_id: str) -> int:
    """Kill what is left of a job's group; how many were there. A pid that now belongs to others is left alone."""
    ended: set[int] = set()
    while found := _group(leader, job_id) - ended:  # again: one may have started another while they were looked for
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended |= found
    return len(ended)


def is_living_child(pid: int | None) -> bool:
    """Whether this process has such a child, and it is not a zombie."""
    try:
        return _stat(pid)[1] == str(os.getpid()) and _state(pid) != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _state(pid: int | None) -> str:
    return _stat(pid)[0]


def _stat(pid: int | None) -> list[str]:
    """State, parent and what follows the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _group(leader: int, job_id: str) -> set[int]:
    pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return {pid for pid in pids if _belongs(pid, leader, job_id)}


def _belongs(pid: int, leader: int, job_id: str) -> bool:
    """In the leader's group, and the leader itself or started by that job."""
    try:
        if os.getpgid(pid) != leader or leader == os.getpgid(0):
            return False
        return (pid == leader and _is_worker_child(pid)) or f"TENFOLD_JOB={job_id}".encode() in _environ(pid)
    except (ProcessLookupError, PermissionError, FileNotFoundError):
        return False


def _environ(pid: int) -> list[bytes]:
    """A process that is just beginning another program shows none for a moment; one that has ended, none ever."""
    for _ in range(BEGINNING_MS):
        if (text := Path(f"/proc/{pid}/environ").read_bytes()) or _state(pid) == "Z":
            break
        time.sleep(0.001)
    return text.split(b"\0")


def _is_worker_child(pid: int) -> bool:
    return any(part.startswith(b"TENFOLD_WORKER=") for part in _environ(pid))
