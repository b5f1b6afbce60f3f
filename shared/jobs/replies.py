"""Model replies that were paid for: each is stored when it arrives, and found again by every later attempt.

    jobs/<id>/replies/<sha256 of the key>.json                  loose: durable at once, outside any claim's prefix
    jobs/<id>/<attempt>-<claim>/.journal-<n>/.replies           packed: a journal that the fenced checkpoint names

Packing turns what is loose into one segment of the journal; the loose files go once the checkpoint that names the
segment stands. A kill in between leaves a reply in both places, never in neither.

Who stores a key first is right: a worker that lost its job may still be storing, and a reply that was used must stand.
"""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shared.artifacts import ArtifactStore
from shared.jobs.journal import Journal

PACKED = ".replies"


class _Span(NamedTuple):
    """Where a packed reply lies in the journal."""

    start: int
    bytes: int


class Replies:
    """The replies of one job, as one attempt sees them. Any thread may call."""

    def __init__(self, artifacts: ArtifactStore, folder: str, journal: Journal) -> None:
        self._artifacts, self._folder, self._journal = artifacts, folder, journal
        self._lock = threading.Lock()
        journal.handle.flush()
        self._packed = dict(_spans(journal.path))
        self._loose = self._read_loose()
        self._dispensable = [name for name in self._loose if name in self._packed]  # a kill kept them
        for name in self._dispensable:
            del self._loose[name]

    def get(self, key: str) -> bytes | None:
        """The stored reply, or None."""
        name = _name(key)
        with self._lock:
            found = self._loose.get(name)
            if found is None and name in self._packed:
                found = self._read_packed(self._packed[name])
        return found

    def keep(self, key: str, data: bytes) -> bytes:
        """Store a reply durably, unless one is stored already; the one that stands."""
        if (standing := self.get(key)) is not None:
            return standing
        name = _name(key)
        if not self._artifacts.put_new(self._key(name), data):
            data = self._artifacts.get_bytes(self._key(name))
        with self._lock:
            self._loose[name] = data
        return data

    def pack(self) -> None:
        """Append what is loose to the journal; the next checkpoint makes it count."""
        with self._lock:
            start = self._journal.handle.seek(0, 2)
            for name, data in self._loose.items():
                head = f"{name} {len(data)}\n".encode()
                self._journal.append(head + data + b"\n")
                self._packed[name] = _Span(start + len(head), len(data))
                start += len(head) + len(data) + 1
            self._journal.handle.flush()
            self._dispensable += self._loose
            self._loose = {}

    def drop_packed(self) -> None:
        """Delete loose replies that the standing checkpoint holds."""
        with self._lock:
            names, self._dispensable = self._dispensable, []
        self._artifacts.delete_all([self._key(name) for name in names])

    def _read_loose(self) -> dict[str, bytes]:
        names = [name for name in self._artifacts.folders(self._folder) if not name.startswith(".")]
        blobs = self._artifacts.get_all([f"{self._folder}/{name}" for name in names])
        return {name.removesuffix(".json"): blobs[f"{self._folder}/{name}"] for name in names}

    def _read_packed(self, span: _Span) -> bytes:
        with self._journal.path.open("rb") as handle:
            handle.seek(span.start)
            return handle.read(span.bytes)

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}.json"


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _spans(path: Path) -> Iterator[tuple[str, _Span]]:
    """Every record of a journal of replies: a line of name and length, the reply, a line feed."""
    with path.open("rb") as handle:
        while line := handle.readline():
            name, _, length = line.decode().partition(" ")
            span = _Span(handle.tell(), int(length))
            handle.seek(span.bytes + 1, 1)
            yield name, span
