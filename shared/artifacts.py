"""The artifact store: every blob a job reads or leaves, over fsspec (a folder on a laptop, S3 in a cluster).

    jobs/<id>/<attempt>-<claim>/<name>    a claim's files; rubbish unless a record or committed.json points there
    jobs/<id>/committed.json              the finished record: history that outlives Redis
    files/<sha256>                        uploads

A put is whole or not at all. Keys are relative to the store's root.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

PRESIGN_FROM_BYTES = 16 * 2**20
"""Downloads from an object store are redirected from this size on."""
CHUNK = 1 << 20


class Blob(NamedTuple):
    key: str
    bytes: int
    modified_s: float  # seconds since the epoch; 0 when the store doesn't say


class ArtifactStore:
    """Blobs by key. Open one per process, after any fork: remote file systems run a thread of their own."""

    def __init__(self, url: str) -> None:
        try:
            # What others wrote a moment ago must be seen: listings are never taken from memory.
            self.fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as missing:
            raise ValueError(f"TENFOLD_ARTIFACTS={url} needs a package that is not installed: {missing}") from missing
        self.root = str(root).rstrip("/")
        self.is_local = isinstance(self.fs, LocalFileSystem)

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write a small blob."""
        if self.is_local:
            with self._replacing(key) as handle:
                handle.write(data)
        else:
            self.fs.pipe_file(self._path(key), data)

    def put_new(self, key: str, data: bytes) -> None:
        """Write a small blob that is not there yet, durably before this returns. Raises FileExistsError."""
        if not self.is_local:
            self._create(key, data)
            return
        target = Path(self._path(key))
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            with fresh.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            os.link(fresh, target)  # fails where the name is taken, whoever took it
        finally:
            fresh.unlink(missing_ok=True)
        _sync_folder(target.parent)

    def _create(self, key: str, data: bytes) -> None:
        """A conditional write (`If-None-Match: *`), which S3 and its newer relatives know."""
        try:
            self.fs.pipe_file(self._path(key), data, mode="create")
        except OSError as error:
            if "ConditionalRequestConflict" in str(error):  # another write of that name is under way
                raise FileExistsError(key) from None
            raise

    def put_file(self, key: str, path: Path) -> None:
        """Upload a local file."""
        if self.is_local:
            with self._replacing(key) as handle, path.open("rb") as source:
                shutil.copyfileobj(source, handle, CHUNK)
        else:
            self.fs.put_file(str(path), self._path(key))

    def get_all(self, keys: list[str]) -> dict[str, bytes]:
        """Read many small blobs; at once where the store can. Raises FileNotFoundError."""
        if self.is_local:
            return {key: Path(self._path(key)).read_bytes() for key in keys}
        found: dict[str, bytes] = self.fs.cat([self._path(key) for key in keys]) if keys else {}
        return {path[len(self.root) + 1 :]: bytes(data) for path, data in found.items()}

    def get_bytes(self, key: str) -> bytes:
        """Read a small blob. Raises FileNotFoundError."""
        return bytes(self.fs.cat_file(self._path(key)))

    def get_file(self, key: str, path: Path) -> None:
        """Download to a local file. Raises FileNotFoundError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.fs.get_file(self._path(key), str(path))

    def local_path(self, key: str) -> Path | None:
        """Where a blob lies on this machine's disk, if it does."""
        return Path(self._path(key)) if self.is_local else None

    def open(self, key: str) -> IO[bytes]:
        """A seekable reader. Raises FileNotFoundError."""
        handle: IO[bytes] = self.fs.open(self._path(key), "rb")
        return handle

    def exists(self, key: str) -> bool:
        return bool(self.fs.exists(self._path(key)))

    def size(self, key: str) -> int:
        """Bytes of a blob. Raises FileNotFoundError."""
        return int(self.fs.size(self._path(key)))

    def blobs(self, prefix: str) -> Iterator[Blob]:
        """Every blob under a prefix."""
        try:
            found: dict[str, Any] = self.fs.find(self._path(prefix), detail=True)
        except FileNotFoundError:
            return
        for path, info in sorted(found.items()):
            yield Blob(path[len(self.root) + 1 :], int(info["size"]), _seconds(info))

    def folders(self, prefix: str) -> list[str]:
        """The names directly under a prefix."""
        try:
            paths = self.fs.ls(self._path(prefix), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rsplit("/", 1)[1] for path in paths)

    def delete(self, key: str) -> None:
        """Remove a blob or everything under a prefix; nothing there is fine."""
        try:
            self.fs.rm(self._path(key), recursive=True)
        except FileNotFoundError:
            return

    def delete_all(self, keys: list[str]) -> None:
        """Remove many blobs; those that are gone are fine."""
        if self.is_local:
            for key in keys:
                Path(self._path(key)).unlink(missing_ok=True)
        elif keys:
            with suppress(FileNotFoundError):
                self.fs.rm([self._path(key) for key in keys])

    def presigned_url(self, key: str, seconds: int = 300) -> str | None:
        """A URL that the object store itself serves; None for a local folder."""
        return None if self.is_local else str(self.fs.sign(self._path(key), expiration=seconds))

    def check(self) -> None:
        """Write and remove a blob: raises whatever the store raises when it doesn't answer."""
        key = f".check-{secrets.token_hex(4)}"
        self.put_bytes(key, b"ok")
        self.delete(key)

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _replacing(self, key: str) -> "_Replacing":
        return _Replacing(Path(self._path(key)))


class _Replacing:
    """A file that appears under its name complete and on disk, or never."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fresh = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.part")

    def __enter__(self) -> IO[bytes]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.handle = self.fresh.open("wb")
        return self.handle

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self.handle.flush()
                os.fsync(self.handle.fileno())
                self.handle.close()
                os.replace(self.fresh, self.path)
        finally:
            self.handle.close()
            self.fresh.unlink(missing_ok=True)


def _seconds(info: dict[str, Any]) -> float:
    stamp = info.get("mtime") or info.get("LastModified") or 0
    return float(stamp.timestamp() if hasattr(stamp, "timestamp") else stamp)


def _sync_folder(folder: Path) -> None:
    """A name is durable once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
