import json
import os

import pytest

from services.client import Tenfold
from services.local.layout import SOURCE
from tests.cluster.embedded import Embedded


@pytest.fixture(scope="session")
def cluster(tmp_path_factory, kinds_path):
    """One cluster for all tests of a session, with the test kinds; each leaves it running, or recovering by itself.

    Its one endpoint lacks its secret.
    """
    folder = tmp_path_factory.mktemp("cluster")
    endpoints = folder / "endpoints.json"
    endpoints.write_text(json.dumps({"locked": {"base_url": "http://127.0.0.1:1", "secret": "no-such-key"}}))
    settings = {"PYTHONPATH": f"{SOURCE}{os.pathsep}{kinds_path}", "TENFOLD_ENDPOINTS": str(endpoints)}
    cluster = Embedded(folder, **settings)
    cluster.up()
    yield cluster
    cluster.end()


@pytest.fixture
def other(tmp_path, kinds_path):
    """A second one, not started."""
    other = Embedded(tmp_path, PYTHONPATH=f"{SOURCE}{os.pathsep}{kinds_path}")
    yield other
    other.end()


@pytest.fixture
def tenfold(cluster):
    """A client of the shared cluster."""
    with Tenfold(cluster.url, patience_s=30) as tenfold:
        yield tenfold
