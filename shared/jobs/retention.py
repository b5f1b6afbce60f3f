"""What may be thrown away, and when: by the reconciler as time passes, by `gc` at once.

- files of deleted jobs: at once, and once more ten minutes later, as a worker that lost its lease may have been writing
- prefixes that neither the record nor its checkpoint points to, checkpoints and model replies after success: a minute
  after the end, or after the next claim
- uploads that no job refers to: after 7 days without use
- what is kept encrypted for a while (`sealed` artifacts, and the checkpoints of their jobs): 30 days after the end
- records: after TENFOLD_KEEP_DAYS; their committed.json and artifacts stay, and GET serves them; what only a retry
  would read goes
- folders of jobs that nobody knows (no record, no committed.json), files cut short by a crash: by `gc`, a day after
  they were written
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import redis

from shared.artifacts import ArtifactStore
from shared.jobs.errors import Conflict, NotFound
from shared.jobs.files import UploadedFiles
from shared.jobs.history import read_committed
from shared.jobs.layout import REPLIES, committed_key, job_folder, upload_key
from shared.jobs.record import JobRecord
from shared.jobs.redteam import SEALED
from shared.jobs.states import JobState
from shared.jobs.store import PREFIX, JobStore

DAY_S = 24 * 3600
UPLOAD_DAYS = 7
SEALED_DAYS = 30
BATCH = 200
AGAIN_S = 60.0  # what the artifact store refused to delete is tried again then

CLAIM_PREFIX = re.compile(r"\d+-[0-9a-f]+")
LEFTOVER = re.compile(r"\.(checkpoint|journal)-\d+")


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

    def clear_garbage(self) -> dict[str, Exception]:
        """Files of deleted jobs, and the leftovers of others; what could not be deleted, by name."""
        return self._clear("garbage", self._artifacts.delete) | self._clear("untidy", self._tidy)

    def clear_old(self) -> None:
        """Uploads nobody refers to, records past their days."""
        self._files.drop_unused(UPLOAD_DAYS * DAY_S)
        self._drop_sealed()
        before_ms = self._store.now_ms() - int(self._keep_days * DAY_S * 1000)
        stay = 0  # those that can't go yet don't keep the others from going
        for _ in range(BATCH):
            oldest = self._store.redis.zrangebyscore(f"{PREFIX}finished", "-inf", before_ms, start=stay, num=1)
            if not oldest:
                return
            stay += not self._retire(oldest[0])

    def collect(self, *, dry_run: bool) -> Removed:
        """Everything that may go, now: what `tenfold gc` does and prints."""
        removed = Removed()
        for job_id in self._artifacts.folders("jobs"):
            for key in self._dispensable(job_id):
                self._remove(key, removed, dry_run)
        for key in self._cut_short():
            self._remove(key, removed, dry_run)
        for sha256 in self._files.unused(UPLOAD_DAYS * DAY_S):
            self._remove(upload_key(sha256), removed, dry_run=True)
        if not dry_run:
            self._files.drop_unused(UPLOAD_DAYS * DAY_S)
        return removed

    def _drop_sealed(self) -> None:
        """Delete what jobs keep encrypted, `SEALED_DAYS` after their end, checkpoints and replies included."""
        before_ms = self._store.now_ms() - SEALED_DAYS * DAY_S * 1000
        for job_id in self._store.redis.zrangebyscore(SEALED, "-inf", before_ms, start=0, num=BATCH):
            finished_ms = self._finished_ms(job_id)
            if finished_ms is not None and finished_ms > before_ms:  # unfinished ones end at infinity
                self._store.redis.zadd(SEALED, {job_id: min(finished_ms, self._store.now_ms())})
                continue
            for blob in list(self._artifacts.blobs(job_folder(job_id))):
                parts = blob.key.removeprefix(f"{job_folder(job_id)}/").split("/")
                if parts[-1].endswith(".enc") or parts[0] == REPLIES or any(LEFTOVER.fullmatch(p) for p in parts):
                    self._artifacts.delete(blob.key)
            self._store.redis.zrem(SEALED, job_id)

    def _finished_ms(self, job_id: str) -> float | None:
        """When a job ended: infinity for an unfinished one, None for one that nobody knows."""
        try:
            record, _ = self._record(job_id)
        except NotFound:
            return None
        return record.finished_ms if record.finished_ms is not None else float("inf")

    def _remove(self, key: str, removed: Removed, dry_run: bool) -> None:
        removed.keys.append(key)
        removed.bytes += sum(blob.bytes for blob in self._artifacts.blobs(key))
        if not dry_run:
            self._artifacts.delete(key)

    def _clear(self, name: str, clear: Callable[[str], None]) -> dict[str, Exception]:
        """Deal with what is due in a set; what fails is put off, so that it stops nothing else."""
        failures: dict[str, Exception] = {}
        for member, score in self._store.due(name, BATCH):
            try:
                clear(member)
                self._store.strike(name, (member, score))
            except redis.RedisError:
                raise
            except Exception as error:  # whatever a file system may raise
                failures[member] = error
                self._store.put_off(name, member, AGAIN_S)
        return failures

    def _tidy(self, job_id: str) -> None:
        for key in self._dispensable(job_id):
            self._artifacts.delete(key)

    # What of a job's files may go ---------------------------------------------------------------------------------

    def _dispensable(self, job_id: str) -> list[str]:
        """The keys of a job's folder that nothing will read again."""
        folder = job_folder(job_id)
        names = self._artifacts.folders(folder)  # before the record: no prefix of a later claim is among them
        try:
            record, may_go_on = self._record(job_id)
        except NotFound:
            return [] if not names or self._is_fresh(folder) else [folder]
        return [f"{folder}/{name}" for name in self._superseded(names, record, may_go_on)]

    def _record(self, job_id: str) -> tuple[JobRecord, bool]:
        """The record, and whether an attempt may read its checkpoint. Raises NotFound."""
        try:
            record = self._store.get(job_id)
        except NotFound:
            return read_committed(job_id, self._artifacts), False
        return record, record.state is not JobState.SUCCEEDED

    def _superseded(self, names: list[str], record: JobRecord, may_go_on: bool) -> Iterator[str]:
        """Prefixes that nothing points to; where no attempt will follow, checkpoints and model replies too."""
        pointer = record.checkpoint or "" if may_go_on else ""
        for name in names:
            if CLAIM_PREFIX.fullmatch(name) and name != record.prefix and f'"{name}/' not in pointer:
                yield name
        if not may_go_on and REPLIES in names:
            yield REPLIES
        if not may_go_on and record.prefix in names:
            own = self._artifacts.folders(f"{job_folder(record.id)}/{record.prefix}")
            yield from (f"{record.prefix}/{name}" for name in own if LEFTOVER.fullmatch(name))

    def _cut_short(self) -> Iterator[str]:
        """Files whose writer was killed before they got their name."""
        for top in ("jobs", "files", "sweeps"):
            for blob in self._artifacts.blobs(top):
                name = blob.key.rpartition("/")[2]
                if name.startswith(".") and name.endswith(".part") and _is_old(blob.modified_s):
                    yield blob.key

    def _is_fresh(self, folder: str) -> bool:
        return any(not _is_old(blob.modified_s) for blob in self._artifacts.blobs(folder))

    def _retire(self, job_id: str) -> bool:
        """Let a record go whose committed.json is there; False when it has to stay."""
        if not self._artifacts.exists(committed_key(job_id)):
            return False
        try:
            self._store.forget(job_id, with_files=False)
        except NotFound:  # gone meanwhile
            return True
        except Conflict:  # an unfinished job needs it, or its files are not in order yet
            return False
        self._tidy(job_id)
        return True


def _is_old(modified_s: float) -> bool:
    return time.time() - modified_s >= DAY_S
