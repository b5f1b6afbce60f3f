"""What may be thrown away, and when: by the reconciler as time passes, by `gc` at once.

- files of deleted jobs: at once
- prefixes that a finished record doesn't point to (superseded claims, checkpoints after success): after the end
- uploads that no job refers to: after 7 days
- records: after TENFOLD_KEEP_DAYS; their committed.json and artifacts stay, and GET serves them
- folders of jobs that nobody knows (no record, no committed.json): by `gc`, a day after they were written
"""

import time
from dataclasses import dataclass, field

from shared.artifacts import ArtifactStore
from shared.jobs.errors import Conflict, NotFound
from shared.jobs.files import UploadedFiles
from shared.jobs.layout import COMMITTED, committed_key, job_folder
from shared.jobs.record import JobRecord
from shared.jobs.states import JobState
from shared.jobs.store import PREFIX, JobStore

DAY_S = 24 * 3600
UPLOAD_DAYS = 7
BATCH = 200


@dataclass
class Removed:
    """What a collection removed, or would remove."""

    keys: list[str] = field(default_factory=list)
    bytes: int = 0


class Retention:
    """Clears what nobody needs."""

    def __init__(self, store: JobStore, artifacts: ArtifactStore, keep_days: float) -> None:
        self._store, self._artifacts, self._keep_days = store, artifacts, keep_days
        self._files = UploadedFiles(store, artifacts)

    def clear_garbage(self) -> None:
        """Files of deleted jobs, and the leftovers of finished ones."""
        for job_id in self._store.redis.srandmember(f"{PREFIX}garbage", BATCH):
            self._artifacts.delete(job_folder(job_id))
            self._store.redis.srem(f"{PREFIX}garbage", job_id)
        for job_id in self._store.redis.srandmember(f"{PREFIX}untidy", BATCH):
            self._tidy(job_id)
            self._store.redis.srem(f"{PREFIX}untidy", job_id)

    def clear_old(self) -> None:
        """Uploads nobody refers to, records past their days."""
        for sha256 in self._files.unreferenced(UPLOAD_DAYS * DAY_S):
            self._files.remove(sha256)
        before_ms = self._store.now_ms() - int(self._keep_days * DAY_S * 1000)
        for job_id in self._store.redis.zrangebyscore(f"{PREFIX}finished", "-inf", before_ms, start=0, num=BATCH):
            self._retire(job_id)

    def collect(self, *, dry_run: bool) -> Removed:
        """Everything that may go, now: what `tenfold gc` does and prints."""
        removed = Removed()
        for job_id in self._artifacts.folders("jobs"):
            for key in self._dispensable(job_id):
                self._remove(key, removed, dry_run)
        for sha256 in self._files.unreferenced(UPLOAD_DAYS * DAY_S):
            self._remove(f"files/{sha256}", removed, dry_run)
            if not dry_run:
                self._files.remove(sha256)
        return removed

    def _remove(self, key: str, removed: Removed, dry_run: bool) -> None:
        removed.keys.append(key)
        removed.bytes += sum(blob.bytes for blob in self._artifacts.blobs(key)) or 0
        if not dry_run:
            self._artifacts.delete(key)

    def _tidy(self, job_id: str) -> None:
        for key in self._dispensable(job_id):
            self._artifacts.delete(key)

    def _dispensable(self, job_id: str) -> list[str]:
        """The keys of a job's folder that nothing will read again."""
        folder = job_folder(job_id)
        try:
            record = self._store.get(job_id)
        except NotFound:
            return [] if self._artifacts.exists(committed_key(job_id)) or self._is_fresh(folder) else [folder]
        if record.state is not JobState.SUCCEEDED:
            return []  # unfinished, or a retry may go on from its checkpoint
        return [f"{folder}/{name}" for name in self._superseded(folder, record)]

    def _superseded(self, folder: str, record: JobRecord) -> list[str]:
        prefixes = [name for name in self._artifacts.folders(folder) if name not in (record.prefix, COMMITTED)]
        own = self._artifacts.folders(f"{folder}/{record.prefix}")
        return prefixes + [f"{record.prefix}/{name}" for name in own if name.startswith((".checkpoint-", ".journal-"))]

    def _is_fresh(self, folder: str) -> bool:
        return any(time.time() - blob.modified_s < DAY_S for blob in self._artifacts.blobs(folder))

    def _retire(self, job_id: str) -> None:
        if not self._artifacts.exists(committed_key(job_id)):
            return
        try:
            self._store.forget(job_id, with_files=False)
        except (NotFound, Conflict):  # gone meanwhile, or an unfinished job needs it
            return
