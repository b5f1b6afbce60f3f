"""Ends every queued job at once, one well and the next badly, so that a fuzzed gateway has jobs in every state."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.artifacts import ArtifactStore
from shared.jobs.catalog import pools
from shared.jobs.errors import LeaseLost, NotFound
from shared.jobs.layout import job_file
from shared.jobs.states import JobState
from shared.jobs.store import PREFIX, JobStore, Outcome, Worker

PAUSE_S = 0.05


@contextmanager
def finishing(store: JobStore, artifacts: ArtifactStore) -> Iterator[None]:
    """A thread that does so until the end of the block."""
    stop = threading.Event()
    thread = threading.Thread(target=_finish_all, args=(store, artifacts, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        store.redis.close()


def _finish_all(store: JobStore, artifacts: ArtifactStore, stop: threading.Event) -> None:
    queues = sorted({*pools(), "test"})
    ended = 0
    while not stop.wait(PAUSE_S):
        for pool in queues:
            for job_id in store.redis.zrange(f"{PREFIX}queued:{pool}", 0, -1):
                ended += 1
                try:
                    _end(store, artifacts, job_id, well=ended % 2 == 1)
                except (LeaseLost, NotFound):  # cancelled or deleted meanwhile
                    continue


def _end(store: JobStore, artifacts: ArtifactStore, job_id: str, *, well: bool) -> None:
    claimed = store.claim(job_id, store.get(job_id).attempt + 1, Worker("test@finisher", 1))
    if claimed is None:
        return
    claim, _ = claimed
    if not well:
        store.commit(claim, Outcome(JobState.FAILED, {"prefix": claim.prefix}, "failed", "it broke"))
        return
    artifacts.put_bytes(job_file(job_id, claim.prefix, "end.txt"), b"0.0\n")
    listed = [{"name": "end.txt", "media_type": "text/plain", "bytes": 4, "sha256": "0" * 64}]
    fields = {"result": "{}", "artifacts": json.dumps(listed), "prefix": claim.prefix}
    store.commit(claim, Outcome(JobState.SUCCEEDED, fields))
