"""Which jobs to list, and a page of them."""

from dataclasses import dataclass
from typing import NamedTuple

from shared.jobs.record import JobRecord
from shared.jobs.states import JobState


class Page(NamedTuple):
    items: list[JobRecord]
    next_cursor: str | None


@dataclass(frozen=True)
class Query:
    """Which jobs to list; every criterion must hold."""

    kind: str | None = None
    state: JobState | None = None
    owner: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    limit: int = 50
    cursor: str | None = None

    def indexes(self) -> list[str]:
        """The indexes that a job must be in."""
        chosen = [f"kind:{self.kind}" if self.kind else "", f"state:{self.state}" if self.state else ""]
        chosen += [f"owner:{self.owner}" if self.owner is not None else ""]
        chosen += [f"label:{label_index(key, value)}" for key, value in self.labels]
        return [name for name in chosen if name] or ["all"]


def label_index(key: str, value: str) -> str:
    """The name of a label's index."""
    return f"{key}={value}"
