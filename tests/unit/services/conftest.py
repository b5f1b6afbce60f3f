import pytest

from services.client import Tenfold
from tests.unit.services.api_server import ApiServer


@pytest.fixture
def server():
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def tenfold(server):
    """Patient enough to outlive one broken connection, not enough to slow a test down."""
    with Tenfold(server.url, timeout_s=5, patience_s=2) as tenfold:
        yield tenfold


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch):
    for name in ("TENFOLD_URL", "TENFOLD_TOKEN", "TENFOLD_PORT_BASE"):
        monkeypatch.delenv(name, raising=False)
