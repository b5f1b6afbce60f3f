import pytest

from services.local.layout import Layout
from shared.settings import Settings


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "data")
    layout.prepare()
    yield layout
    layout.sockets.rmdir()


@pytest.fixture
def settings(monkeypatch, layout):
    monkeypatch.delenv("TENFOLD_REDIS_URL", raising=False)
    monkeypatch.delenv("TENFOLD_RAY_ADDRESS", raising=False)
    return Settings(data=layout.data, port_base=20000)
