"""What tests of every folder may use: a real Redis and S3 service, and the test kinds as an installed package."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, redis_server
from tests.s3_server import BUCKET, CREDENTIALS, s3_server

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


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """The address of an S3 service with one bucket."""
    if not all(importlib.util.find_spec(module) for module in ("s3fs", "moto", "flask_cors")):
        pytest.skip("s3fs and moto are not installed")
    with s3_server() as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def artifact_root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A root of artifacts of its own in each kind of store."""
    if request.param == "folder":
        return str(tmp_path / "artifacts")
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_url"))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"


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
