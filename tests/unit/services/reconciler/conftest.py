from collections.abc import Iterator
from pathlib import Path

import pytest

from services.reconciler.loop import Reconciler
from shared.artifacts import ArtifactStore
from shared.settings import Settings
from tests.unit.jobs.lives import Lives

TTL_S = 1.0  # shorter than any server of these tests has been up


@pytest.fixture
def lives(redis_url: str) -> Iterator[Lives]:
    """A store whose clock the test turns; every invariant holds at the end."""
    lives = Lives(redis_url)
    yield lives
    lives.check()
    lives.redis.close()


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


@pytest.fixture
def reconciler(lives: Lives, artifacts: ArtifactStore, tmp_path: Path) -> Reconciler:
    return Reconciler(lives.store, artifacts, Settings(data=tmp_path, lease_ttl_s=TTL_S, keep_days=2))
