"""History that outlives Redis: the finished record as `jobs/<id>/committed.json`, and back.

`manifest.json` beside a job's artifacts holds what made the result (no clock, host or attempt in it); `committed.json`
holds the record: times, attempts, owner, labels, and the pointer to the committed files. What a sweep says of itself
is written once, as `sweeps/<id>.json`.
"""

import json
from typing import Any

from shared.artifacts import ArtifactStore
from shared.jobs.catalog import catalog
from shared.jobs.errors import NotFound
from shared.jobs.layout import LOG, committed_key, job_folder, log_key, sweep_key
from shared.jobs.record import JobRecord
from shared.jobs.redteam import SEALED
from shared.jobs.store import PREFIX, JobStore

_LEFT_OUT = {"template", "idem", "claim", "pid", "queued_ms", "missing_ms", "due_ms", "hand_back", "deadline_ms"}
DAY_MS = 24 * 3600 * 1000


def write_committed(job_id: str, store: JobStore, artifacts: ArtifactStore) -> bool:
    """Write a final job's committed.json and strike it off the list of those that lack one.

    A record that was retried meanwhile stays on the list; a file of a job deleted meanwhile goes again.
    """
    fields: dict[str, str] = store.redis.hgetall(f"{PREFIX}job:{job_id}")
    if not fields or not JobRecord.from_hash(fields).state.is_final:
        store.redis.srem(f"{PREFIX}uncommitted", job_id)
        return False
    _keep_log(job_id, fields, store, artifacts)
    kept = {name: fields[name] for name in sorted(fields.keys() - _LEFT_OUT)}
    artifacts.put_bytes(committed_key(job_id), json.dumps(kept, ensure_ascii=False, indent=1).encode())
    if sweep := fields.get("sweep"):
        _write_sweep(sweep, store, artifacts)
    verdict = store.settle(job_id, fields["attempt"], fields["finished_ms"])
    if verdict == "deleted":
        artifacts.delete(job_folder(job_id))
    return verdict == "settled"


def read_committed(job_id: str, artifacts: ArtifactStore) -> JobRecord:
    """A finished job that Redis no longer knows. Raises NotFound."""
    try:
        return JobRecord.from_hash(_read(committed_key(job_id), artifacts))
    except (FileNotFoundError, KeyError, ValueError):
        raise NotFound(f"there is no job {job_id}") from None


def reindex(store: JobStore, artifacts: ArtifactStore, keep_days: float | None = None) -> tuple[int, int]:
    """Rebuild the records that Redis lacks from their files: (restored, left as they are).

    Left: records that are there, deleted or damaged, and those past `keep_days`, which GET serves from their files.
    """
    oldest_ms = store.now_ms() - int(keep_days * DAY_MS) if keep_days is not None else 0
    restored = left = 0
    for job_id in artifacts.folders("jobs"):
        if store.state(job_id) is None and _restore(job_id, oldest_ms, store, artifacts):
            restored += 1
        elif artifacts.exists(committed_key(job_id)):
            left += 1
    return restored, left


def _restore(job_id: str, oldest_ms: int, store: JobStore, artifacts: ArtifactStore) -> bool:
    try:
        fields = _read(committed_key(job_id), artifacts)
        record = JobRecord.from_hash(fields)
    except (FileNotFoundError, KeyError, ValueError):  # unfinished, or damaged
        return False
    if record.id != job_id or not record.state.is_final or (record.finished_ms or 0) < oldest_ms:
        return False
    if record.checkpoint and not artifacts.exists(f"{job_folder(job_id)}/{json.loads(record.checkpoint)['folder']}"):
        del fields["checkpoint"]  # a retry starts from zero
    spec = catalog().get(record.kind)
    if spec is not None and spec.sealed:
        store.redis.zadd(SEALED, {job_id: record.finished_ms or 0})
    return store.restore(fields, _sweep_of(record, artifacts) if record.sweep else {})


def _keep_log(job_id: str, fields: dict[str, str], store: JobStore, artifacts: ArtifactStore) -> None:
    """The log so far, where no worker was left to put it among the artifacts."""
    if any(artifact["name"] == LOG for artifact in json.loads(fields.get("artifacts") or "[]")):
        return
    if text := store.redis.get(f"{PREFIX}log:{job_id}"):
        artifacts.put_bytes(log_key(job_id), text.encode())


def _write_sweep(sweep_id: str, store: JobStore, artifacts: ArtifactStore) -> None:
    if artifacts.exists(sweep_key(sweep_id)):
        return
    fields: dict[str, str] = store.redis.hgetall(f"{PREFIX}sweep:{sweep_id}")
    if fields:
        fields.pop("idem", None)
        artifacts.put_bytes(sweep_key(sweep_id), json.dumps(fields, ensure_ascii=False, indent=1).encode())


def _sweep_of(record: JobRecord, artifacts: ArtifactStore) -> dict[str, str]:
    """A sweep's fields; where its file is lost, what one of its jobs tells."""
    try:
        return _read(sweep_key(record.sweep or ""), artifacts)
    except (FileNotFoundError, ValueError):
        created_ms = str(record.created_ms)
        return {"id": record.sweep or "", "owner": record.owner, "kind": record.kind, "created_ms": created_ms}


def _read(key: str, artifacts: ArtifactStore) -> dict[str, str]:
    """A flat JSON object of texts. Raises FileNotFoundError, ValueError."""
    fields: Any = json.loads(artifacts.get_bytes(key))
    if not isinstance(fields, dict):
        raise ValueError(f"{key} holds no object")
    return {str(name): str(value) for name, value in fields.items()}
