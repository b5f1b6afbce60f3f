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


class Health(NamedTuple):
    """One line of the status."""

    name: str
    pid: int | None
    ports: dict[str, int]
    is_healthy: bool
    says: str


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
    wrong = _complaint(program, settings)
    return Health(program.name, state.pid, program.ports, wrong is None, wrong or state.says.partition(", ")[2] or "up")


def _why_not(state: ProcessState | None) -> str:
    return "not running" if state is None else f"{state.state.lower()}: {state.says}".rstrip(": ")


def _complaint(program: Program, settings: Settings) -> str | None:
    """What is wrong with a running process; None when it answers."""
    if program.name == "gateway":
        return None if is_ready(settings) else "doesn't answer /readyz with 200"
    if program.name == "flower":
        return _http_complaint(f"http://127.0.0.1:{settings.ports.flower}/healthcheck")
    if program.name == "redis":
        return _redis_complaint(settings.ports.redis)
    if program.alive is not None:
        return _silence_complaint(settings.data.resolve() / "run" / program.alive)
    silent = [port for port in list(program.ports.values())[:1] if not _listens(port)]
    return f"nothing listens on {silent[0]} yet" if silent else None


def _silence_complaint(alive: Path) -> str | None:
    """Workers and the reconciler listen nowhere: they touch a file as long as they do their rounds."""
    try:
        silent_s = time.time() - alive.stat().st_mtime
    except FileNotFoundError:
        return "has not done its first round yet"
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
