"""History that outlives Redis: the finished record as `jobs/<id>/committed.json`, and back.

`manifest.json` beside a job's artifacts holds what made the result (no clock, host or attempt in it); `committed.json`
holds the record: times, attempts, owner, labels, and the pointer to the committed files.
"""

import json
from typing import Any

from shared.artifacts import ArtifactStore
from shared.jobs.errors import NotFound
from shared.jobs.layout import COMMITTED, committed_key, job_folder
from shared.jobs.record import JobRecord
from shared.jobs.store import PREFIX, JobStore, label_index, references_in_json

_LEFT_OUT = {"template", "idem", "claim", "pid", "queued_ms", "missing_ms", "due_ms", "hand_back", "deadline_ms"}


def write_committed(job_id: str, store: JobStore, artifacts: ArtifactStore) -> bool:
    """Write a final job's committed.json and strike it off the list of those that lack one."""
    fields: dict[str, str] = store.redis.hgetall(f"{PREFIX}job:{job_id}")
    if not fields or not JobRecord.from_hash(fields).state.is_final:
        store.redis.srem(f"{PREFIX}uncommitted", job_id)
        return False
    kept = {name: fields[name] for name in sorted(fields.keys() - _LEFT_OUT)}
    artifacts.put_bytes(committed_key(job_id), json.dumps(kept, ensure_ascii=False, indent=1).encode())
    store.redis.srem(f"{PREFIX}uncommitted", job_id)
    return True


def read_committed(job_id: str, artifacts: ArtifactStore) -> JobRecord:
    """A finished job that Redis no longer knows. Raises NotFound."""
    return JobRecord.from_hash(_fields(job_id, artifacts))


def reindex(store: JobStore, artifacts: ArtifactStore) -> tuple[int, int]:
    """Rebuild the records that Redis lacks from their files: (restored, already there)."""
    restored = present = 0
    for job_id in artifacts.folders("jobs"):
        if store.state(job_id) is not None:
            present += 1
        elif artifacts.exists(f"{job_folder(job_id)}/{COMMITTED}"):
            _restore(_fields(job_id, artifacts), store)
            restored += 1
    return restored, present


def _fields(job_id: str, artifacts: ArtifactStore) -> dict[str, str]:
    try:
        fields: dict[str, Any] = json.loads(artifacts.get_bytes(committed_key(job_id)))
    except FileNotFoundError:
        raise NotFound(f"there is no job {job_id}") from None
    return {str(name): str(value) for name, value in fields.items()}


def _restore(fields: dict[str, str], store: JobStore) -> None:
    job_id = fields["id"]
    labels = [label_index(key, value) for key, value in json.loads(fields.get("labels", "{}")).items()]
    indexes = ["all", f"kind:{fields['kind']}", f"owner:{fields['owner']}", f"state:{fields['state']}"]
    indexes += [f"label:{label}" for label in labels]
    with store.redis.pipeline(transaction=True) as pipe:
        pipe.hset(f"{PREFIX}job:{job_id}", mapping=fields)
        for index in indexes:
            pipe.zadd(f"{PREFIX}ix:{index}", {job_id: 0})
        pipe.zadd(f"{PREFIX}finished", {job_id: int(fields["finished_ms"])})
        for reference in references_in_json(fields.get("params", "{}")):
            pipe.sadd(f"{PREFIX}uses:{reference}", job_id)
        if sweep := fields.get("sweep"):
            pipe.rpush(f"{PREFIX}sweep_jobs:{sweep}", job_id)
            pipe.zadd(f"{PREFIX}ix:sweeps", {sweep: 0})
            pipe.hsetnx(f"{PREFIX}sweep:{sweep}", "id", sweep)
            pipe.hsetnx(f"{PREFIX}sweep:{sweep}", "owner", fields["owner"])
            pipe.hsetnx(f"{PREFIX}sweep:{sweep}", "kind", fields["kind"])
            pipe.hsetnx(f"{PREFIX}sweep:{sweep}", "created_ms", fields["created_ms"])
        pipe.execute()
