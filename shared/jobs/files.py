"""Uploaded files: content-addressed, so the same bytes are one file with one reference."""

import time
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
        self._use(file.sha256)
        while self._store.redis.exists(f"{PREFIX}dropping:{file.sha256}"):  # until the old blob is gone
            time.sleep(0.02)
        if not self._artifacts.exists(upload_key(file.sha256)):
            self._artifacts.put_file(upload_key(file.sha256), path)
        self._describe(file)

    def find(self, sha256: str) -> UploadedFile:
        """Raises NotFound."""
        fields = self._store.redis.hgetall(f"{PREFIX}file:{sha256}")
        if fields:
            return UploadedFile(sha256, int(fields["bytes"]), fields["media_type"])
        try:  # Redis lost it, the store did not
            file = UploadedFile(sha256, self._artifacts.size(upload_key(sha256)), "application/octet-stream")
        except FileNotFoundError:
            raise NotFound(f"there is no file {sha256}: upload it first") from None
        if not self._store.redis.exists(f"{PREFIX}dropping:{sha256}"):
            self._use(sha256)
            self._describe(file)
        return file

    def unused(self, for_s: float) -> list[str]:
        """Uploads that no job's record refers to, not uploaded anew for so long."""
        old = self._store.redis.zrangebyscore(f"{PREFIX}files", "-inf", self._before_ms(for_s))
        return [sha256 for sha256 in old if not self._store.redis.exists(f"{PREFIX}uses:file:{sha256}")]

    def drop_unused(self, for_s: float) -> list[str]:
        """Delete them; one that is referred to or uploaded meanwhile stays."""
        before_ms = self._before_ms(for_s)
        dropped = [sha256 for sha256 in self.unused(for_s) if self._store.drop_file(sha256, before_ms)]
        for sha256 in dropped:
            self._artifacts.delete(upload_key(sha256))
            self._store.redis.delete(f"{PREFIX}dropping:{sha256}")
        return dropped

    def _before_ms(self, for_s: float) -> int:
        return self._store.now_ms() - int(for_s * 1000)

    def _use(self, sha256: str) -> None:
        self._store.redis.zadd(f"{PREFIX}files", {sha256: self._store.now_ms()})

    def _describe(self, file: UploadedFile) -> None:
        fields = {"bytes": file.bytes, "media_type": file.media_type}
        self._store.redis.hset(f"{PREFIX}file:{file.sha256}", mapping=fields)
