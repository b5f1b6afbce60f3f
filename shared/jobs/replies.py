"""Model replies that were paid for: each is stored when it arrives, and found again by every later attempt.

    jobs/<id>/replies/<attempt>-<claim>.<n>               loose: replies that arrived together, durable at once
    jobs/<id>/<attempt>-<claim>/.journal-<n>/.replies     packed: a journal that the fenced checkpoint names

Packing turns what is loose into one segment of the journal; the loose files go once the checkpoint that names the
segment stands. A kill in between leaves a reply in both places, never in neither.

A worker that lost its job may still be storing. So a packed reply stands before loose ones, and of these the latest
attempt's: it was used by whoever has the job, who would not have asked for what had been stored before.
"""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import BinaryIO, NamedTuple

from shared.artifacts import ArtifactStore
from shared.jobs.journal import Journal

PACKED = ".replies"
_LOOSE = re.compile(r"(\d+)-.*\.(\d+)")


class _Span(NamedTuple):
    """Where a packed reply lies in the journal."""

    start: int
    bytes: int


class LooseReplies(NamedTuple):
    """Where loose replies lie."""

    artifacts: ArtifactStore
    folder: str
    writer: str | None = None
    """`<attempt>-<claim>` of this attempt; None: the next number, for a folder without claims."""


class Replies:
    """The replies of one job, as one attempt sees them. Any thread may call."""

    def __init__(self, place: LooseReplies, journal: Journal) -> None:
        self._artifacts, self._folder = place.artifacts, place.folder
        self._journal = journal
        self._lock = threading.Lock()
        journal.handle.flush()
        with journal.path.open("rb") as packed:
            self._packed = dict(_records(packed))
        self._loose: dict[str, bytes] = {}
        self._files: list[str] = []  # that hold a loose reply
        self._dispensable: list[str] = []  # files whose replies are all packed: a kill kept them
        attempts = self._read_loose()
        self._writer = place.writer or f"{max(attempts, default=0) + 1}-local"
        self._written = 0

    def get(self, key: str) -> bytes | None:
        """The stored reply, or None."""
        with self._lock:
            return self._get(_name(key))

    def keep(self, replies: Mapping[str, bytes]) -> dict[str, bytes]:
        """Store replies durably by key, but for those that are stored already; what stands under each key."""
        names = {key: _name(key) for key in replies}
        with self._lock:
            standing = {key: known for key, name in names.items() if (known := self._get(name)) is not None}
            self._written += 1
            file = f"{self._folder}/{self._writer}.{self._written}"
        fresh = {names[key]: data for key, data in replies.items() if key not in standing}
        if fresh:
            self._artifacts.put_bytes(file, b"".join(_record(name, data) for name, data in fresh.items()))
            with self._lock:
                self._files.append(file)
                self._loose |= fresh
        return {**replies, **standing}

    def pack(self) -> None:
        """Append what is loose to the journal; the next checkpoint makes it count."""
        with self._lock:
            start = self._journal.handle.seek(0, 2)
            for name, data in self._loose.items():
                record = _record(name, data)
                self._journal.append(record)
                start += len(record)
                self._packed[name] = _Span(start - 1 - len(data), len(data))
            self._journal.handle.flush()
            self._dispensable += self._files
            self._loose, self._files = {}, []

    def drop_packed(self) -> None:
        """Delete the loose files whose replies the standing checkpoint holds."""
        with self._lock:
            files, self._dispensable = self._dispensable, []
        self._artifacts.delete_all(files)

    def _get(self, name: str) -> bytes | None:
        if span := self._packed.get(name):
            with self._journal.path.open("rb") as handle:
                handle.seek(span.start)
                return handle.read(span.bytes)
        return self._loose.get(name)

    def _read_loose(self) -> list[int]:
        """Take in every attempt's loose replies, the latest last; the numbers of the attempts."""
        found = sorted(
            (int(match[1]), int(match[2]), name)
            for name in self._artifacts.folders(self._folder)
            if (match := _LOOSE.fullmatch(name))
        )
        files = [f"{self._folder}/{name}" for _, _, name in found]
        blobs = self._artifacts.get_all(files)
        for file in files:
            data = blobs[file]
            held = {name: data[span.start :][: span.bytes] for name, span in _records(BytesIO(data))}
            missing = {name: reply for name, reply in held.items() if name not in self._packed}
            self._loose |= missing
            (self._files if missing else self._dispensable).append(file)
        return [attempt for attempt, _, _ in found]


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _record(name: str, data: bytes) -> bytes:
    """A line of name and length, the reply, a line feed."""
    return f"{name} {len(data)}\n".encode() + data + b"\n"


def _records(source: BinaryIO) -> Iterator[tuple[str, _Span]]:
    """Every record by name, and where its reply lies."""
    while line := source.readline():
        name, _, length = line.decode().partition(" ")
        span = _Span(source.tell(), int(length))
        source.seek(span.bytes + 1, 1)
        yield name, span
