"""What tests of every folder may use: a real Redis, and the test kinds as an installed package."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, redis_server

KINDS = Path(__file__).parent / "kinds"


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One server for all tests that empty it before use."""
    with redis_server() as server:
        yield server


@pytest.fixture
def redis_url(shared_redis: RedisServer) -> str:
    """An empty Redis."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis.url


@pytest.fixture(scope="session")
def real_data_root() -> Path:
    """The folder of real data, one folder per method in it."""
    return Path(os.environ.get("TENFOLD_REAL_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def kinds_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where tests/kinds is installed, entry point included; belongs on PYTHONPATH."""
    return install_kinds(tmp_path_factory.mktemp("kinds"))


def install_kinds(folder: Path) -> Path:
    """Install tests/kinds under a folder of its own, and return what belongs on PYTHONPATH."""
    source = folder / "source"  # a copy: building leaves files behind
    shutil.copytree(KINDS, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--target", str(folder / "installed"), str(source)]
    subprocess.run(command, check=True, timeout=120)
    return folder / "installed"
