"""The append-only log of one document: event n is a blob of its own, made if and only if it isn't there yet.

    annotation/<project>/<document>/00000007.json

Two annotators who append the same version race for one name, and one of them loses: nothing is ever overwritten. An
event is durable before its answer is sent. A client that lost the answer may send the event again under its `event_id`.
On an object store the race is its conditional write; `require_exclusive_writes` refuses a store that knows none.
"""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from services.gateway.problems import Problem
from shared.artifacts import ArtifactStore

Event = dict[str, Any]


class Stale(Exception):
    """The document has moved on."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the document is at version {version}")
        self.version = version


class EventLog:
    """The events of one document. What was read once is kept: events never change."""

    def __init__(self, artifacts: ArtifactStore, folder: str) -> None:
        self._artifacts, self._folder = artifacts, folder
        self._events: list[Event] = []

    def events(self) -> list[Event]:
        """All of them, in order; looks for new ones, which another process may have appended."""
        while True:
            try:
                data = self._artifacts.get_bytes(self._key(len(self._events) + 1))
            except FileNotFoundError:
                return list(self._events)
            self._events.append(json.loads(data))

    def missing(self, found: int) -> list[str]:
        """The keys that are not read yet, of a log that a listing finds to have `found` events."""
        return [self._key(number) for number in range(len(self._events) + 1, found + 1)]

    def take(self, blobs: Mapping[str, bytes]) -> list[Event]:
        """All events, those just read by their keys among them."""
        while (data := blobs.get(self._key(len(self._events) + 1))) is not None:
            self._events.append(json.loads(data))
        return list(self._events)

    def append(self, event: Event, version: int) -> int:
        """Append after `version`; the new version. Raises Stale when there is a later one."""
        events = self.events()
        if event_id := event.get("event_id"):
            for number, known in enumerate(events, start=1):
                if known.get("event_id") == event_id:
                    return number  # sent again by a client that did not hear the answer
        if version != len(events):
            raise Stale(len(events))
        data = json.dumps(event, ensure_ascii=False, sort_keys=True).encode()
        try:
            self._artifacts.put_new(self._key(version + 1), data)
        except FileExistsError:
            after = self.events()
            if len(after) > version and after[version] == json.loads(data):
                return version + 1  # ours: the store's answer was lost and the request sent again
            raise Stale(len(after)) from None
        return version + 1

    def _key(self, number: int) -> str:
        return f"{self._folder}/{number:08d}.json"


def require_exclusive_writes(artifacts: ArtifactStore, folder: str) -> None:
    """Raises Problem where the store overwrites what it was to create: annotators' events would be lost."""
    key = f"{folder}/.exclusive-{secrets.token_hex(8)}"
    try:
        artifacts.put_new(key, b"1")
        artifacts.put_new(key, b"2")
    except FileExistsError:
        return
    finally:
        artifacts.delete(key)
    raise Problem(
        "unavailable",
        "the artifact store overwrites a blob that was to be created (it ignores If-None-Match), so two annotators "
        "could overwrite each other; use a folder, S3, or a store with conditional writes",
    )
