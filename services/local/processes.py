"""Which processes of this machine belong to a cluster, and ending them.

Every process of a cluster carries TENFOLD_DATA and TENFOLD_PROCESS in its environment; Ray's worker processes overwrite
theirs with a title, and are known by the cluster's socket folder on their command line or by their parent. A pid file
alone proves nothing: the number may be somebody else's by now.
"""

import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

import psutil

from services.local.layout import Layout
from services.local.programs import STAGES, stopping_stage

POLL_S = 0.05
KILLED_S = 5.0
"""How long a killed process may take to be gone before it is looked for again."""


def own_processes(layout: Layout) -> list[psutil.Process]:
    """Every living process of the cluster, its supervisord included, whoever started it."""
    found = {process.pid: process for process in psutil.process_iter() if _belongs(process, layout)}
    for process in list(found.values()):
        with suppress(psutil.Error):
            found |= {child.pid: child for child in process.children(recursive=True)}
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _is_alive(process)]


def main_processes(layout: Layout) -> dict[str, int]:
    """Process id by program, of the programs that live."""
    mains = [process for process in own_processes(layout) if _is_main(process)]
    return {role: process.pid for process in mains if (role := role_of(process))}


def role_of(process: psutil.Process) -> str:
    """What the process is in the cluster: the name of its program."""
    with suppress(psutil.Error):
        return process.environ().get("TENFOLD_PROCESS", "")
    return ""


def _belongs(process: psutil.Process, layout: Layout) -> bool:
    try:
        environment = process.environ()
        if "TENFOLD_PROCESS" in environment:
            return environment.get("TENFOLD_DATA") == str(layout.data)
        return any(str(layout.sockets / "ray") in argument for argument in process.cmdline())
    except (psutil.Error, OSError):
        return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(layout: Layout, grace_s: float) -> None:
    """End every process of the cluster. The programs' main processes are asked, in order; what is left is killed."""
    for stage in range(STAGES):
        mains = [process for process in own_processes(layout) if _is_main(process)]
        asked = [process for process in mains if stopping_stage(role_of(process)) == stage]
        _signal(asked, signal.SIGTERM)
        _wait(asked, grace_s)
    kill(layout)


def kill(layout: Layout) -> None:
    """Kill every process of the cluster; again until none is left."""
    while processes := own_processes(layout):
        _signal(processes, signal.SIGKILL)
        _wait(processes, KILLED_S)


def _is_main(process: psutil.Process) -> bool:
    """Whether supervisord started it: each of its programs leads a process group."""
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid) == process.pid
    return False


def _wait(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    """Until all have ended; one that its parent hasn't noticed yet (a zombie) has."""
    deadline = time.monotonic() + timeout_s
    while any(map(_is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
