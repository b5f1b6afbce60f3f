"""A gateway in this process over a real Redis, with the test kinds beside the house's own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from services.gateway import kinds, openapi, pages, submissions
from services.gateway.app import create_app
from services.gateway.state import Gateway
from shared.jobs.catalog import catalog
from shared.settings import Settings
from tests.unit.services.gateway.worker import FakeWorker


class WholeAnswers(FlaskClient):
    """Reads each answer to its end and closes it, as a caller does; `buffered=False` hands out a stream."""

    def open(self, *args, buffered=True, **more):
        return super().open(*args, buffered=buffered, **more)


CACHES = (catalog, submissions.submit_model, openapi._text, pages._operations_html, kinds._view)


@pytest.fixture(scope="package", autouse=True)
def _test_kinds(kinds_path: Path) -> Iterator[None]:
    """The catalog as a process sees it that has the test kinds installed."""
    sys.path.insert(0, str(kinds_path))
    _forget_catalog()
    yield
    sys.path.remove(str(kinds_path))
    _forget_catalog()


def _forget_catalog() -> None:
    for cached in CACHES:
        cached.cache_clear()


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """What this test's gateway is told; a test that needs more overrides it by `@pytest.mark.settings(...)`."""
    return Settings(redis_url=redis_url, data=tmp_path / "data")


@pytest.fixture
def app(settings: Settings, request: pytest.FixtureRequest):
    mark = request.node.get_closest_marker("settings")
    app = create_app(settings.model_copy(update=mark.kwargs) if mark else settings)
    app.test_client_class = WholeAnswers
    yield app
    app.extensions["tenfold"].tail.close()
    app.extensions["tenfold"].store.redis.close()


@pytest.fixture
def parts(app) -> Gateway:
    return app.extensions["tenfold"]


@pytest.fixture
def api(app) -> FlaskClient:
    """A caller on this machine."""
    return app.test_client()


@pytest.fixture
def worker(parts: Gateway) -> FakeWorker:
    return FakeWorker(parts)


@pytest.fixture
def submit(api):
    """Submit a job and return its id."""

    def submit(kind: str = "test.noop", params: dict | None = None, **terms) -> str:
        answer = api.post("/v1/jobs", json={"kind": kind, "params": params or {}, **terms})
        assert answer.status_code == 202, answer.text
        return answer.json["id"]

    return submit
