"""A worker's runtime over a real Redis and a folder, with the test kinds in the catalog."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import ArtifactStore
from shared.broker import Messages, make_app, queue_key
from shared.jobs.catalog import catalog, find
from shared.jobs.record import JobRecord, Priority
from shared.jobs.spec import JobSpec
from shared.jobs.store import JobStore, NewJob, Submission, Worker
from shared.settings import Settings
from workers.runtime.delivery import Runtime, deliver
from workers.runtime.registry import entry_of


@pytest.fixture
def kinds(kinds_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test kinds, installed."""
    monkeypatch.syspath_prepend(str(kinds_path))
    catalog.cache_clear()
    yield
    catalog.cache_clear()
    entry_of.cache_clear()


@dataclass
class Bench:
    """Submit a job and run one delivery of it in this process."""

    runtime: Runtime
    messages: Messages

    @property
    def store(self) -> JobStore:
        return self.runtime.store

    @property
    def artifacts(self) -> ArtifactStore:
        return self.runtime.artifacts

    def submit(self, kind: str, params: dict[str, Any], **terms: Any) -> str:
        spec = find(kind)
        new = NewJob(
            kind=kind,
            kind_version=spec.version,
            pool=spec.pool,
            params=spec.params.model_validate(params).model_dump_json(),
            message=self.messages.template(spec, Priority.NORMAL),
            queue=queue_key(spec.pool, Priority.NORMAL),
            **terms,
        )
        return self.store.submit(new, Submission("local")).id

    def deliver(self, job_id: str, attempt: int = 1) -> JobRecord:
        deliver(job_id, attempt, self.runtime)
        return self.store.get(job_id)

    def run(self, kind: str, params: dict[str, Any], **terms: Any) -> JobRecord:
        return self.deliver(self.submit(kind, params, **terms))


@pytest.fixture
def bench(kinds: None, redis_url: str, tmp_path: Path) -> Iterator[Bench]:
    settings = Settings(data=tmp_path / "data", redis_url=redis_url)
    store = JobStore.connect(redis_url)
    worker = Worker("test@here", os.getpid())
    runtime = Runtime(settings, store, ArtifactStore(str(tmp_path / "artifacts")), worker)
    app = make_app(redis_url)
    yield Bench(runtime, Messages(app))
    app.close()
    store.redis.close()


@pytest.fixture
def newer_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, this worker runs the next version of every kind."""

    def find_newer(kind: str) -> JobSpec:
        spec = find(kind)
        return replace(spec, version=spec.version + 1)

    return lambda: monkeypatch.setattr("workers.runtime.claim_context.find", find_newer)
