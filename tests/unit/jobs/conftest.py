from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.artifacts import ArtifactStore
from tests.unit.jobs.lives import Lives


@pytest.fixture
def lives(redis_url: str) -> Iterator[Lives]:
    """A store on an empty Redis, whose clock the test turns; every invariant holds at the end."""
    lives = Lives(redis_url)
    yield lives
    lives.check()
    lives.redis.close()


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))
