"""Which processes of this machine belong to a cluster, and ending them.

Every process of a cluster carries TENFOLD_DATA and TENFOLD_PROCESS in its environment; Ray's worker processes overwrite
theirs with a title, and are known by the cluster's socket folder on their command line or by their parent. A pid file
alone proves nothing: the number may be somebody else's by now.
"""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil

from services.local.layout import Layout


def own_processes(layout: Layout) -> list[psutil.Process]:
    """Every living process of the cluster, its supervisord included, whoever started it."""
    found = {process.pid: process for process in psutil.process_iter() if _belongs(process, layout)}
    for process in list(found.values()):
        with suppress(psutil.Error):
            found |= {child.pid: child for child in process.children(recursive=True)}
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _is_alive(process)]


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


def end(layout: Layout, grace_s: float) -> int:
    """End every process of the cluster: ask, wait, kill; again until none is left. Returns how many there were."""
    ended = 0
    while processes := own_processes(layout):
        ended += len(processes)
        _signal(processes, signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=grace_s)
        _signal(alive, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=5)
        grace_s = 0.5
    return ended


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
