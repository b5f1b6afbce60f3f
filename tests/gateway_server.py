"""A gateway of a test's own: gunicorn as the cluster runs it, on a free port, with the test kinds installed."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.redis_server import free_port

SOURCE = Path(__file__).resolve().parents[1]
PATIENCE_S = 60.0


@dataclass(frozen=True)
class GatewayServer:
    port: int
    process: "subprocess.Popen[bytes]"
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60)


@contextmanager
def gateway_server(
    redis_url: str, folder: Path, kinds: Path, config: str = "services.gateway.server", **settings: str
) -> Iterator[GatewayServer]:
    """`settings` are TENFOLD_* variables in lower case without their prefix; `config` names the service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENFOLD_")}
    own = {"TENFOLD_REDIS_URL": redis_url, "TENFOLD_DATA": str(folder / "data"), "HOME": str(folder)}
    own |= {f"TENFOLD_{name.upper()}": value for name, value in settings.items()}
    paths = {
        "PYTHONPATH": os.pathsep.join((str(SOURCE), str(kinds))),
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
    }
    port, output = free_port(), folder / "gateway.out"
    command = [sys.executable, "-m", "gunicorn", "--config", f"python:{config}"]
    with output.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--bind", f"127.0.0.1:{port}"], env=kept | own | paths, stdout=out, stderr=out, cwd=folder
        )
    try:
        wait_for(port, process, output)
        yield GatewayServer(port, process, output)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(port: int, process: "subprocess.Popen[bytes]", output: Path) -> None:
    """Return when it listens. Raises RuntimeError with what it said."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the gateway does not start:\n{output.read_text()}")
        time.sleep(0.05)
