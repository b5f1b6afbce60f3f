import pytest

from services.client import Tenfold
from tests.cluster.embedded import Embedded


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """One cluster for all tests of a session; each leaves it running, or recovering by itself."""
    cluster = Embedded(tmp_path_factory.mktemp("cluster"))
    cluster.up()
    yield cluster
    cluster.end()


@pytest.fixture
def other(tmp_path):
    """A second one, not started."""
    other = Embedded(tmp_path)
    yield other
    other.end()


@pytest.fixture
def tenfold(cluster):
    """A client of the shared cluster."""
    with Tenfold(cluster.url, patience_s=30) as tenfold:
        yield tenfold
