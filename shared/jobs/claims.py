"""What a worker and the store say to each other about one running job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shared.jobs.states import JobState


@dataclass(frozen=True)
class Worker:
    """Who claims: the worker's name, the process that runs the job, its lease and its threads."""

    name: str
    pid: int
    lease_ttl_s: float = 15.0
    threads: int = 1


class Claim(NamedTuple):
    """The right to write a job's outcome: stale as soon as anybody claims it again."""

    job_id: str
    attempt: int
    token: str

    @property
    def prefix(self) -> str:
        """The folder of this claim's files under the job's."""
        return f"{self.attempt}-{self.token}"


class Flags(NamedTuple):
    """What a running job must heed at once."""

    cancel: bool
    hand_back: bool
    overtime: bool


class Report(NamedTuple):
    """What a running job says in one write: opaque fields, events (type, JSON) and log text."""

    fields: Mapping[str, str] = {}
    events: Sequence[tuple[str, str]] = ()
    log: str = ""


class Outcome(NamedTuple):
    """How an attempt ended, with the opaque fields to publish (result, artifacts, prefix, timings)."""

    state: JobState
    fields: Mapping[str, str] = {}
    error_type: str = ""
    error_message: str = ""
    error_retryable: bool = False
