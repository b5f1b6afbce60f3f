"""Process groups: a job's child process leads one, and everything the job started dies with it."""

import os
import signal
from pathlib import Path


def lead_group() -> None:
    """Make this process the leader of a group of its own."""
    if os.getpgid(0) != os.getpid():
        os.setpgid(0, 0)


def end_group(leader: int, job_id: str) -> int:
    """Kill what is left of a job's group; how many were there. A pid that now belongs to others is left alone."""
    ended = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _belongs(int(entry.name), leader, job_id):
            try:
                os.kill(int(entry.name), signal.SIGKILL)
                ended += 1
            except ProcessLookupError:
                continue
    return ended


def is_living_child(pid: int | None) -> bool:
    """Whether this process has such a child, and it is not a zombie."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(parent) == os.getpid() and state != "Z"


def _belongs(pid: int, leader: int, job_id: str) -> bool:
    """In the leader's group, and the leader itself or started by that job."""
    try:
        if os.getpgid(pid) != leader or leader == os.getpgid(0):
            return False
        return (pid == leader and _is_worker_child(pid)) or f"TENFOLD_JOB={job_id}".encode() in _environ(pid)
    except (ProcessLookupError, PermissionError, FileNotFoundError):
        return False


def _environ(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def _is_worker_child(pid: int) -> bool:
    return any(part.startswith(b"TENFOLD_WORKER=") for part in _environ(pid))
