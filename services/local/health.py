"""How each process of the cluster is: what `./tenfold status` prints."""

import socket
import time
from pathlib import Path
from typing import NamedTuple

import httpx

from services.client import Tenfold, Unreachable
from services.local.programs import Program, address
from services.local.supervisor import ProcessState
from shared.settings import Settings

TIMEOUT_S = 3.0
SILENT_S = 15.0
STARTING = "starting: "
STARTING_S = 30.0
"""How long a process may take until it answers: Ray and Flower need some seconds, more on a loaded machine."""


class Health(NamedTuple):
    """One line of the status."""

    name: str
    pid: int | None
    ports: dict[str, int]
    is_healthy: bool
    says: str

    @property
    def word(self) -> str:
        """healthy, starting or unhealthy."""
        return "healthy" if self.is_healthy else "starting" if self.says.startswith(STARTING) else "unhealthy"


def gateway_url(settings: Settings) -> str:
    """Where this machine's own gateway is reached."""
    host = settings.host if settings.host not in {"0.0.0.0", "::"} else "127.0.0.1"
    return f"http://{address(host, settings.ports.gateway)}"


def is_ready(settings: Settings) -> bool:
    """Whether the gateway answers /readyz with yes."""
    with Tenfold(gateway_url(settings), timeout_s=TIMEOUT_S, patience_s=0) as tenfold:
        try:
            return tenfold.readiness().ok
        except Unreachable:
            return False


def check(program: Program, state: ProcessState | None, settings: Settings) -> Health:
    """Is it running, and does it answer where it should?"""
    if state is None or state.state != "RUNNING":
        return Health(program.name, None, program.ports, False, _why_not(state))
    wrong = _complaint(program, settings, state.started)
    if wrong and time.time() - state.started < STARTING_S:
        wrong = STARTING + wrong
    return Health(program.name, state.pid, program.ports, wrong is None, wrong or state.says.partition(", ")[2] or "up")


def check_orphan(program: Program, pid: int, settings: Settings) -> Health:
    """A process that a killed supervisord has left: does it still answer?"""
    wrong = _complaint(program, settings)
    says = f"without supervisord: {wrong}" if wrong else "up, without supervisord"
    return Health(program.name, pid, program.ports, wrong is None, says)


def _why_not(state: ProcessState | None) -> str:
    return "not running" if state is None else f"{state.state.lower()}: {state.says}".rstrip(": ")


def _complaint(program: Program, settings: Settings, started: float = 0.0) -> str | None:
    """What is wrong with a running process, started at that second of the epoch; None when it answers."""
    if program.name == "gateway":
        return None if is_ready(settings) else "doesn't answer /readyz with 200"
    if program.name == "flower":
        return _http_complaint(f"http://127.0.0.1:{settings.ports.flower}/healthcheck")
    if program.name == "redis":
        return _redis_complaint(settings.ports.redis)
    if program.alive is not None:
        return _silence_complaint(settings.data.resolve() / "run" / program.alive, started)
    silent = [port for port in list(program.ports.values())[:1] if not _listens(port)]
    return f"nothing listens on {silent[0]} yet" if silent else None


def _silence_complaint(alive: Path, started: float) -> str | None:
    """Workers and the reconciler listen nowhere: they touch a file as long as they do their rounds."""
    try:
        last_round = alive.stat().st_mtime
    except FileNotFoundError:
        last_round = 0.0
    if last_round < started or not last_round:  # the file may be of the process before
        return "has not done its first round yet"
    silent_s = time.time() - last_round
    return None if silent_s < SILENT_S else f"did its last round {silent_s:.0f} s ago"


def _http_complaint(url: str) -> str | None:
    try:
        status = httpx.get(url, timeout=TIMEOUT_S, trust_env=False).status_code
    except httpx.TransportError as failure:
        return f"{url}: {failure}"
    return None if status < 400 else f"{url} answers {status}"


def _redis_complaint(port: int) -> str | None:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\n")
            said = connection.recv(64)
    except OSError as failure:
        return f"port {port}: {failure.strerror or failure}"
    return None if said.startswith(b"+PONG") else said.decode(errors="replace").strip()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S).close()
    except OSError:
        return False
    return True
