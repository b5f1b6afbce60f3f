"""The append-only log of one document: event n is a blob of its own, made if and only if it isn't there yet.

    annotation/<project>/<document>/00000007.json

Two annotators who append the same version race for one name, and one of them loses: nothing is ever overwritten. An
event is durable before its answer is sent. A client that lost the answer may send the event again under its `event_id`.
"""

import json
from typing import Any

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
            raise Stale(len(self.events())) from None
        return version + 1

    def _key(self, number: int) -> str:
        return f"{self._folder}/{number:08d}.json"
