"""Are the cluster's ports free, and who has them if not."""

import socket
from collections.abc import Iterable
from contextlib import suppress

import psutil

from services.local.errors import CannotStart
from services.local.programs import Program


def check_free(programs: Iterable[Program]) -> None:
    """Raises CannotStart naming the first port that somebody else listens on, and the remedy."""
    for program in programs:
        for port in program.ports.values():
            if _is_taken(port):
                raise CannotStart(
                    f"port {port}, needed for {program.name}, is taken by {_holder(port)}: stop that, "
                    "or choose other ports with TENFOLD_PORT_BASE, e.g. TENFOLD_PORT_BASE=18000 ./tenfold up."
                )


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT don't count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _holder(port: int) -> str:
    """The process that listens there; only the administrator sees those of other people."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "a process of another user"
