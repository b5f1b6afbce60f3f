"""What a method sees of the cluster: `JobContext`.

A method reports progress, metrics and log lines, writes artifacts, saves checkpoints and asks whether to go on. It
never sees Redis, Celery or HTTP. `LocalContext` (module `local`) is the same thing over a folder, with no cluster at
all.

Kill anywhere, same answer: whatever a method needs to go on goes into `checkpoint`; files that grow (`journal`, the
metric curves) are part of the checkpoint, so a resumed job has no gap and no repeat in them.
"""

import hashlib
import json
import math
import mimetypes
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from shared.jobs.artifact_names import check_name
from shared.jobs.errors import Permanent
from shared.jobs.journal import Journal
from shared.jobs.references import Ref
from shared.jobs.replies import PACKED, Replies

CURVES = "curves.jsonl"
TIMINGS = "timings.jsonl"
KEYED_TIMINGS = ".timings"  # a hidden journal: what an earlier attempt measured is not lost


@dataclass(frozen=True)
class Artifact:
    """A finished file of a job."""

    name: str
    media_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Restored:
    """What the last checkpoint held."""

    state: dict[str, Any]
    blobs: Mapping[str, Path]


class JobContext(ABC):
    """The one thing a method is given beside its Params."""

    local: bool = False
    """Whether the method runs by itself, with no cluster around it."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        """A scratch folder of this attempt; gone afterwards."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._journals: dict[str, Journal] = {}
        self._checkpointing = threading.Lock()
        self._timings: list[dict[str, Any]] = []
        self._finished: dict[str, Artifact] = {}

    # What a method calls ------------------------------------------------------------------------------------------

    def progress(self, done: int, total: int, unit: str, message: str = "") -> None:
        """Say how far the job is. Cheap: call it as often as you like."""
        self._report_progress({"done": done, "total": total, "unit": unit, "message": message})
        self.check()

    def metric(self, name: str, step: int, value: float | None) -> None:
        """One point of a curve: streamed now, kept in `curves.jsonl`. An undefined value is None; NaN is refused."""
        if value is not None and not math.isfinite(value):
            raise Permanent(f"metric {name!r} is {value} at step {step}: an undefined value is passed as None")
        point = {"name": name, "step": step, "value": value}
        self.journal(CURVES).append_json(point)
        self._report("metric", point)

    def log(self, message: str) -> None:
        """A line for the person who submitted the job."""
        self._report("log", {"message": message})

    def token(self, text: str, **about: int | str) -> None:
        """A piece of generated text, streamed as it is made; `about` says which prompt and position."""
        self._report("token", {"text": text, **about})

    def timing(self, name: str, seconds: float, key: str | None = None) -> None:
        """A measured duration: goes to `job.timings` (summed by name) and `timings.jsonl`, never into a result.

        One with a key, of what it measures, is part of the checkpoint and counts in later attempts, too.
        """
        entry = {"name": name, "seconds": seconds}
        if key is None:
            self._timings.append(entry)
        else:
            self.journal(KEYED_TIMINGS).append_json({**entry, "key": key})

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Record how long the block takes as `timing(name, …)`."""
        start = time.monotonic()
        yield
        self.timing(name, time.monotonic() - start)

    @contextmanager
    def artifact(self, name: str) -> Iterator[BinaryIO]:
        """Write one artifact: it exists once the block ends without an error, whole or not at all."""
        check_name(name)
        path = self.work_dir / f"artifact-{name}"
        with path.open("wb") as handle:
            yield handle
        self._finish(name, path)

    def write_json(self, name: str, value: Any) -> None:
        """An artifact of one JSON value (figures: `*.plotly.json`)."""
        with self.artifact(name) as out:
            out.write(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())

    def write_text(self, name: str, text: str) -> None:
        with self.artifact(name) as out:
            out.write(text.encode())

    def journal(self, name: str) -> Journal:
        """The growing artifact of that name, opened at the length of the restored checkpoint."""
        if name not in self._journals:
            check_name(name)
            path = self.work_dir / f"journal-{name}"
            path.touch()
            self._journals[name] = Journal(name, path, path.open("ab"))
        return self._journals[name]

    def checkpoint(self, state: Mapping[str, Any], blobs: Mapping[str, bytes] | None = None) -> None:
        """Save all that the method needs to go on: `state` is JSON, `blobs` are bytes by name."""
        with self._checkpointing:
            for journal in self._journals.values():
                journal.handle.flush()
            self._save_checkpoint(dict(state), blobs or {})
            if PACKED in self._journals:
                self._replies.drop_packed()
        self.check()

    def kept_reply(self, key: str) -> bytes | None:
        """The stored reply of that key, from this attempt or an earlier one; None when there is none."""
        return self._replies.get(key)

    def keep_reply(self, key: str, data: bytes) -> bytes:
        """Store a reply, durably before this returns, and whatever becomes of this attempt. Any thread may call.

        Returns what stands under the key: the reply that was stored before, if there was one.
        """
        return self.keep_replies({key: data})[key]

    def keep_replies(self, replies: Mapping[str, bytes]) -> dict[str, bytes]:
        """`keep_reply` for replies that arrived together: one write for all."""
        return self._replies.keep(replies)

    def pack_replies(self) -> None:
        """At the end of a phase: single replies become one object, which the next checkpoint names."""
        with self._checkpointing:
            self._replies.pack()

    @abstractmethod
    def restored(self) -> Restored | None:
        """The last checkpoint of an earlier attempt, or None at the first start."""

    @abstractmethod
    def input(self, ref: Ref) -> Path:
        """The file behind a reference, fetched and checked. Raises InvalidInput when it can't be had."""

    @abstractmethod
    def input_digest(self, ref: Ref) -> str:
        """The sha256 of the file behind a reference; of a folder, of its path. Raises InvalidInput."""

    @property
    @abstractmethod
    def cache_dir(self) -> Path:
        """A folder that jobs on this machine share, for what can be made again; name entries by content."""

    @property
    @abstractmethod
    def builtin_dir(self) -> Path:
        """Where what a job makes for all others becomes `builtin:<name>`, a file or folder of that name."""

    @abstractmethod
    def check(self) -> None:
        """Raises Cancelled, HandBack, TimedOut or LeaseLost when the method must stop; else returns at once."""

    # What a cluster implements ------------------------------------------------------------------------------------

    @abstractmethod
    def _report(self, event: str, data: dict[str, Any]) -> None: ...

    @abstractmethod
    def _report_progress(self, progress: dict[str, Any]) -> None: ...

    @abstractmethod
    def _store(self, artifact: Artifact, path: Path) -> None: ...

    @abstractmethod
    def _open_replies(self) -> Replies: ...

    @abstractmethod
    def _save_checkpoint(self, state: dict[str, Any], blobs: Mapping[str, bytes]) -> None: ...

    # Shared machinery ---------------------------------------------------------------------------------------------

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Finished so far, by name."""
        return tuple(self._finished[name] for name in sorted(self._finished))

    @property
    def timings(self) -> dict[str, float]:
        """Seconds summed by name."""
        sums: dict[str, float] = {}
        for entry in (*self._timings, *map(json.loads, self._keyed_timings())):
            sums[entry["name"]] = sums.get(entry["name"], 0.0) + entry["seconds"]
        return sums

    def close_journals(self) -> None:
        """Turn every journal into a finished artifact, in name order; the runtime calls it before the commit."""
        for name in sorted(self._journals):
            journal = self._journals[name]
            journal.handle.close()
            if not journal.is_hidden:
                self._finish(name, journal.path)
        path = self.work_dir / TIMINGS
        with path.open("wb") as out:
            out.writelines(self._keyed_timings())
            out.writelines(json.dumps(entry).encode() + b"\n" for entry in self._timings)
        if path.stat().st_size:
            self._finish(TIMINGS, path)

    def _keyed_timings(self) -> Iterator[bytes]:
        """The lines of timings with a key, of all attempts."""
        journal = self._journals.get(KEYED_TIMINGS)
        if journal is None or not journal.path.exists():
            return
        if not journal.handle.closed:
            journal.handle.flush()
        with journal.path.open("rb") as lines:
            yield from lines

    def release(self) -> None:
        """Close what is open, however the attempt ended."""
        for journal in self._journals.values():
            journal.handle.close()

    @cached_property
    def _replies(self) -> Replies:
        return self._open_replies()

    def _finish(self, name: str, path: Path) -> None:
        self.check()
        digest, size = digest_of(path)
        artifact = Artifact(name, media_type_of(name), size, digest)
        self._store(artifact, path)
        self._finished[name] = artifact


def digest_of_input(path: Path) -> str:
    """The sha256 of a file; a folder's, which is not packed, is its path's."""
    return digest_of(path)[0] if path.is_file() else hashlib.sha256(str(path.resolve()).encode()).hexdigest()


def digest_of(path: Path) -> tuple[str, int]:
    """(sha256 in hex, bytes) of a file."""
    sha = hashlib.sha256()
    size = 0
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            sha.update(chunk)
            size += len(chunk)
    return sha.hexdigest(), size


def media_type_of(name: str) -> str:
    """The media type of an artifact, from its name."""
    if name.endswith(".plotly.json"):
        return "application/vnd.plotly.v1+json"
    if name.endswith(".jsonl"):
        return "application/jsonl"
    if name.endswith((".txt", ".log")):
        return "text/plain; charset=utf-8"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
