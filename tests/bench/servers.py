"""The processes that the measurement of the gateway runs: a Redis, two gunicorns, workers. All end by their pids."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import install_kinds
from tests.gateway_server import SOURCE, wait_for
from tests.redis_server import free_port, redis_server

PROCESSES, THREADS = 2, 640
"""Of either gunicorn: what `services.gateway.server` says."""
STREAMS = "1000"
"""TENFOLD_STREAMS_PER_CALLER here: one caller holds all the streams of the measurement."""


@dataclass(frozen=True)
class Http:
    """A gunicorn that runs."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """User and system time of its worker processes so far."""
        workers = psutil.Process(self.process.pid).children()
        return sum(times.user + times.system for times in (worker.cpu_times() for worker in workers))


class Servers:
    """Everything over one Redis; the plain Celery uses another database of the same server."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        port = stack.enter_context(redis_server()).port
        self.redis, self.bare_redis = f"redis://127.0.0.1:{port}/0", f"redis://127.0.0.1:{port}/1"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TENFOLD_")}
        path = os.pathsep.join((str(SOURCE), str(install_kinds(folder / "kinds"))))
        self._environment = kept | {
            "PYTHONPATH": path,
            "HOME": str(folder),
            "TENFOLD_DATA": str(folder / "data"),
            "TENFOLD_REDIS_URL": self.redis,
            "TENFOLD_STREAMS_PER_CALLER": STREAMS,
            "TENFOLD_MAX_UNFINISHED": "1000000",
            "TENFOLD_LOG_LEVEL": "WARNING",
            "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
            "BARE_REDIS": self.bare_redis,
        }

    def gateway(self) -> Http:
        return self._gunicorn("gateway", ["--config", "python:services.gateway.server"])

    def bare_flask(self) -> Http:
        size = ["--workers", str(PROCESSES), "--threads", str(THREADS)]
        options = [
            "--worker-class",
            "services.gateway.worker_class.ProblemWorker",
            *size,
            "--no-control-socket",
            "--timeout",
            "120",
        ]
        return self._gunicorn("bare", [*options, "tests.bench.bare_flask:app"])

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Ours: one child for the test kinds."""
        command = [sys.executable, "-m", "workers", "worker", "--pool", "test"]
        with self._running("worker", command, {}):
            yield

    @contextmanager
    def plain_worker(self) -> Iterator[None]:
        """Plain Celery with a result backend: one child."""
        command = [sys.executable, "-m", "celery", "-A", "tests.bench.bare_flask:celery", "worker", "-c", "1"]
        with self._running("plain", [*command, "--loglevel=WARNING"], {"BARE_RESULTS": "1"}):
            yield

    def _gunicorn(self, name: str, options: list[str]) -> Http:
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", *options, "--bind", f"127.0.0.1:{port}", "--log-level", "error"]
        process = self._stack.enter_context(self._running(name, command, {}))
        wait_for(port, process, self._folder / f"{name}.out")
        return Http(port, process)

    @contextmanager
    def _running(self, name: str, command: list[str], more: Mapping[str, str]) -> "Iterator[subprocess.Popen[bytes]]":
        with (self._folder / f"{name}.out").open("wb") as out:
            process = subprocess.Popen(
                command, env={**self._environment, **more}, stdout=out, stderr=subprocess.STDOUT, cwd=self._folder
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        yield Servers(stack, folder)
