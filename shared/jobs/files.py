"""Uploaded files: content-addressed, so the same bytes are one file with one reference."""

from pathlib import Path
from typing import NamedTuple

from shared.artifacts import ArtifactStore
from shared.jobs.errors import NotFound
from shared.jobs.layout import upload_key
from shared.jobs.store import PREFIX, JobStore


class UploadedFile(NamedTuple):
    sha256: str
    bytes: int
    media_type: str

    @property
    def ref(self) -> str:
        return f"file:{self.sha256}"


class UploadedFiles:
    """The uploads: blobs in the artifact store, their description in Redis."""

    def __init__(self, store: JobStore, artifacts: ArtifactStore) -> None:
        self._store, self._artifacts = store, artifacts

    def add(self, path: Path, file: UploadedFile) -> None:
        """Keep a file; its life starts anew when it is there already. The blob is complete before it is known."""
        if not self._artifacts.exists(upload_key(file.sha256)):
            self._artifacts.put_file(upload_key(file.sha256), path)
        with self._store.redis.pipeline(transaction=True) as pipe:
            pipe.hset(f"{PREFIX}file:{file.sha256}", mapping={"bytes": file.bytes, "media_type": file.media_type})
            pipe.zadd(f"{PREFIX}files", {file.sha256: self._store.now_ms()})
            pipe.execute()

    def find(self, sha256: str) -> UploadedFile:
        """Raises NotFound."""
        fields = self._store.redis.hgetall(f"{PREFIX}file:{sha256}")
        if fields:
            return UploadedFile(sha256, int(fields["bytes"]), fields["media_type"])
        try:  # Redis lost it, the store did not
            return UploadedFile(sha256, self._artifacts.size(upload_key(sha256)), "application/octet-stream")
        except FileNotFoundError:
            raise NotFound(f"there is no file {sha256}: upload it first") from None

    def unreferenced(self, older_than_s: float) -> list[str]:
        """Uploads of that age that no job's record refers to."""
        before_ms = self._store.now_ms() - int(older_than_s * 1000)
        old = self._store.redis.zrangebyscore(f"{PREFIX}files", "-inf", before_ms)
        return [sha256 for sha256 in old if not self._store.redis.exists(f"{PREFIX}uses:file:{sha256}")]

    def remove(self, sha256: str) -> None:
        self._artifacts.delete(upload_key(sha256))
        self._store.redis.delete(f"{PREFIX}file:{sha256}")
        self._store.redis.zrem(f"{PREFIX}files", sha256)
