"""A Ray head of one's own, as the embedded cluster runs it: token authentication, short paths, stopped by its pid."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ray_head(cpus: int = 1) -> Iterator[str]:
    """The head's address. Enter before Ray is first imported: it reads its authentication mode at import."""
    folder = Path(tempfile.mkdtemp(prefix="tf-", dir="/tmp"))  # short: socket paths have a limit
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in token}
    os.environ.update(token)
    port = _free_port()
    with (folder / "out").open("wb") as out:
        command = _command(port, folder, cpus)
        head = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait_until_started(head, folder / "out")
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait(30)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        shutil.rmtree(folder, ignore_errors=True)


def _command(port: int, folder: Path, cpus: int) -> list[str]:
    ray = Path(sys.executable).parent / "ray"
    return [
        str(ray), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}",
        f"--num-cpus={cpus}", "--include-dashboard=false", "--object-store-memory=200000000", "--disable-usage-stats",
    ]  # fmt: skip


def _wait_until_started(head: subprocess.Popen[bytes], out: Path, patience_s: float = 90) -> None:
    deadline = time.monotonic() + patience_s
    while "Ray runtime started" not in out.read_text():
        if head.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the Ray head didn't start:\n{out.read_text()}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
