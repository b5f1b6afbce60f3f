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


def end(layout: Layout, grace_s: float) -> None:
    """End every process of the cluster. Those supervisord would end are asked, in its order; what is left is killed.

    A worker's main process hands its jobs back, which needs Redis: so workers first, Redis last.
    """
    for stage in (lambda role: role.startswith("worker-"), lambda role: role != "redis", lambda role: True):
        asked = [process for process in own_processes(layout) if _is_main(process) and stage(role_of(process))]
        _signal(asked, signal.SIGTERM)
        psutil.wait_procs(asked, timeout=grace_s)
    kill(layout)


def kill(layout: Layout) -> None:
    """Kill every process of the cluster; again until none is left."""
    while processes := own_processes(layout):
        _signal(processes, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=5)


def _is_main(process: psutil.Process) -> bool:
    """Whether supervisord started it: each of its programs leads a process group."""
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid) == process.pid
    return False


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
