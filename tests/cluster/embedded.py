"""An embedded cluster of a test's own: its own folder, its own ports, driven through the command line like a user's."""

import json
import os
import random
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from services.local import processes
from services.local.layout import SOURCE, Layout
from services.local.supervisor import Supervisor

PORTS = 40
READY_S = 60


class Embedded:
    """`home` is the HOME its processes would write to if they did what they shouldn't."""

    def __init__(self, folder: Path, base: int | None = None, **settings: str) -> None:
        self.layout = Layout(folder / "data")
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)
        self.base = base or free_ports()
        self.settings = settings

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.base}"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TENFOLD_", "OTEL_"))}
        own = {"TENFOLD_DATA": str(self.layout.data), "TENFOLD_PORT_BASE": str(self.base), "HOME": str(self.home)}
        return kept | own | {"PYTHONPATH": str(SOURCE)} | self.settings

    def run(
        self, *arguments: str, module: str = "services.local", timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """One command. Its output is captured: that hangs if a process of the cluster keeps hold of it."""
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def up(self, *options: str) -> None:
        done = self.run("up", *options)
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        assert self.run("down").returncode == 0

    def status(self) -> dict[str, dict[str, Any]]:
        return {line["name"]: line for line in json.loads(self.run("status", "--json").stdout)}

    def is_healthy(self, *names: str) -> bool:
        """Whether these processes, or all, are healthy."""
        status = self.status()
        return all(status[name]["is_healthy"] for name in names or status)

    def pid(self, name: str) -> int:
        return int(self.status()[name]["pid"])

    def kill_children(self, worker: str) -> None:
        """Kill -9 the children that run a worker's jobs; not billiard's tracker beside them, without which it ends."""
        for child in psutil.Process(self.pid(worker)).children():
            if is_pool_child(child):
                child.kill()

    def processes(self) -> list[psutil.Process]:
        return processes.own_processes(self.layout)

    def stop(self, program: str) -> None:
        """Stop one supervised program and wait for its end."""
        Supervisor(self.layout).call("stopProcess", self._full_name(program))

    def start(self, program: str) -> None:
        """Start it again; running already is fine."""
        with suppress(xmlrpc.client.Fault):
            Supervisor(self.layout).call("startProcess", self._full_name(program), False)

    def _full_name(self, program: str) -> str:
        return f"workers:{program}" if program.startswith("worker-") else f"{program}:{program}"

    @contextmanager
    def extra_worker(self, pool: str, name: str, **settings: str) -> Iterator["ExtraWorker"]:
        """One more worker of a pool, as on another machine: nobody restarts it."""
        environment = self.environment | {"OMP_NUM_THREADS": "1"} | settings
        command = [sys.executable, "-m", "workers", "worker", "--pool", pool, "--name", name]
        log = (self.layout.logs / f"{name}.log").open("wb")
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        worker = ExtraWorker(psutil.Process(process.pid))
        try:
            yield worker
        finally:
            worker.kill_tree()
            process.wait()
            log.close()

    def end(self) -> None:
        """Leave nothing behind, whatever a test has done."""
        self.run("down")
        processes.kill(self.layout)


class ExtraWorker:
    """A worker's main process that the test started."""

    def __init__(self, main: psutil.Process) -> None:
        self.main = main

    def terminate(self) -> None:
        self.main.terminate()

    def kill_tree(self) -> None:
        """kill -9 of the main process and its children at once, as when the machine is lost."""
        with suppress(psutil.Error):
            for process in [self.main, *self.main.children(recursive=True)]:
                with suppress(psutil.Error):
                    process.kill()


def is_pool_child(process: psutil.Process) -> bool:
    """Does it run a worker's jobs?"""
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def eventually(is_so: Callable[[], bool], within_s: float = READY_S) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {within_s} s"
        time.sleep(0.2)


def free_ports() -> int:
    """The first of 40 ports in a row that nobody uses, below those the kernel hands out."""
    for _ in range(100):
        base = random.randrange(20000, 32000, PORTS)
        if all(_is_free(base + offset) for offset in range(PORTS)):
            return base
    raise AssertionError("no 40 free ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0
