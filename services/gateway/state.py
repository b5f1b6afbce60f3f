"""What the gateway process holds: settings, store, artifacts, message builder. One per application."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import current_app

from services.gateway.tail import Tail
from shared.artifacts import ArtifactStore
from shared.broker import Messages
from shared.jobs.errors import StorageFull
from shared.jobs.files import UploadedFiles
from shared.jobs.store import JobStore
from shared.settings import Settings

if TYPE_CHECKING:
    from services.gateway.operations import Operation

FULL_AT = 0.8  # of maxmemory: the rest is for claims, renewals, cancels and commits
LOOK_EVERY_S = 1.0


@dataclass
class Gateway:
    """The gateway's parts."""

    settings: Settings
    store: JobStore
    artifacts: ArtifactStore
    files: UploadedFiles
    messages: Messages
    tail: Tail
    operations: "tuple[Operation, ...]"
    _looked: float = 0.0
    _is_full: bool = False

    def refuse_when_full(self) -> None:
        """Raises StorageFull when Redis nears its maxmemory; looked at once a second."""
        now = time.monotonic()
        if now - self._looked > LOOK_EVERY_S:
            memory = self.store.redis.info("memory")
            limit = int(memory.get("maxmemory", 0))
            self._is_full, self._looked = limit > 0 and int(memory["used_memory"]) > FULL_AT * limit, now
        if self._is_full:
            raise StorageFull(
                "the job store is more than 80 % full: wait for jobs to end, delete some, or run tenfold gc"
            )


def gateway() -> Gateway:
    """The current application's."""
    return cast(Gateway, current_app.extensions["tenfold"])
