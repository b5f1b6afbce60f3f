"""A validated submission, and its form as arguments of the submit script."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from shared.jobs.errors import BadRequest, FieldError, QuotaExceeded, UnknownReference
from shared.jobs.listing import label_index
from shared.jobs.record import JobRecord, Priority
from shared.jobs.references import SHAPES
from shared.unique import unique_bytes, unique_hex

IDEMPOTENCY_MS = 24 * 3600 * 1000
SWEEP_BYTES = 64 * 2**20  # of params: a sweep is one script's arguments, and Redis does nothing else meanwhile

_DIGITS = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ" * 8  # a base32 digit for each byte
Arguments = tuple[str | int, ...]


@dataclass(frozen=True)
class NewJob:
    """A validated submission, ready to be written. `message` is the Celery message with its placeholders."""

    kind: str
    kind_version: int
    pool: str
    params: str
    message: str
    queue: str  # the Redis list of its pool and priority
    priority: Priority = Priority.NORMAL
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    max_attempts: int = 3
    timeout_s: float | None = None
    awaited: tuple[str, ...] = ()  # jobs referenced and known to the store
    references: tuple[str, ...] = ()  # every reference: `file:<sha256>`, `job:<id>`
    traceparent: str | None = None  # of the request, where it is traced


@dataclass(frozen=True)
class Submission:
    """Who submits, and the idempotency key with the fingerprint of the body."""

    owner: str
    max_unfinished: int = 100_000
    idempotency_key: str | None = None
    fingerprint: str = ""


class Submitted(NamedTuple):
    id: str  # of the job, or of the sweep
    jobs: tuple[str, ...]
    created: bool  # False: the same key brought an earlier answer back
    record: JobRecord | None = None  # of a single job, where it is known without reading it


def submit_arguments(jobs: Sequence[NewJob], by: Submission, sweep: Mapping[str, str] | None = None) -> list[str | int]:
    """The arguments of submit.lua; `sweep` are a sweep's own opaque fields. Raises BadRequest for a sweep too large."""
    size = sum(len(new.params) for new in jobs)
    if sweep is not None and size > SWEEP_BYTES:
        raise BadRequest(
            f"the params of the sweep's {len(jobs)} jobs are {size / 2**20:.0f} MiB together, more than "
            f"{SWEEP_BYTES // 2**20}: upload what they share, or submit several sweeps",
            [FieldError(("body", "params"), "too large for so many jobs", "sweep")],
        )
    key = f"{by.owner}:{by.idempotency_key}" if by.idempotency_key else ""
    templates = {digest_of_message(new.message): new.message for new in jobs}
    arguments: list[str | int] = [
        by.owner, by.max_unfinished, unique_hex(), key, by.fingerprint, IDEMPOTENCY_MS,
        *fields_argument(templates), *(("0",) if sweep is None else ("1", _entropy(), *fields_argument(sweep))),
        len(jobs),
    ]  # fmt: skip
    for new in jobs:
        arguments += _job_arguments(new)
    return arguments


def submitted(answer: list[Any]) -> Submitted:
    """What submit.lua answered. Raises QuotaExceeded, UnknownReference, BadRequest."""
    match answer:
        case ["new", _, _, id]:
            return Submitted(id, (id,), created=True)
        case ["ok", sweep, *jobs]:
            return Submitted(sweep or jobs[0], tuple(jobs), created=True)
        case ["same", id]:
            return Submitted(id, (), created=False)
        case ["other_body"]:
            raise BadRequest(
                "this Idempotency-Key was used with another body in the last 24 hours; use a new key",
                [FieldError(("header", "Idempotency-Key"), "used with another body", "idempotency_key_reused")],
            )
        case ["quota", count]:
            raise QuotaExceeded(f"you have {count} unfinished jobs; wait for some, or cancel some")
        case ["unmet", id, state]:
            raise UnknownReference(f"job {id} is {state}: its artifacts can't be used")
        case ["dropped", reference]:
            raise UnknownReference(f"{reference} is not kept any more: upload it again")
    raise AssertionError(f"submit answered {answer}")


def submitted_job(new: NewJob, by: Submission, answer: list[Any]) -> Submitted:
    """What submit.lua answered about one job, with its record where the script has just written it."""
    found = submitted(answer)
    if answer[0] != "new":
        return found
    _, created_ms, state, job_id = answer
    written = {"id": job_id, "owner": by.owner, "state": state, "created_ms": created_ms, "attempt": "0", "losses": "0"}
    return found._replace(record=JobRecord.from_hash(_fields_of(new) | written))


def reference_index(reference: str) -> str:
    """The name under which uses of a reference are counted: `file:<sha256>`, or `job:<id>` whatever the artifact."""
    return reference.partition("/")[0] if reference.startswith("job:") else reference


def references_in_json(params: str) -> list[str]:
    """The references in a params text, as they are counted; a text that only looks like one does no harm."""
    return sorted(set(_references_in(json.loads(params))))


def _references_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if SHAPES["file"].match(value) or SHAPES["job"].match(value):
            yield reference_index(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references_in(item)


def list_argument(items: Sequence[str]) -> Arguments:
    """A list as scripts take it: its length first."""
    return len(items), *items


def fields_argument(fields: Mapping[str, str]) -> Arguments:
    """Names and values in turn, their number first."""
    return list_argument([text for pair in fields.items() for text in pair])


@lru_cache(maxsize=1024)
def digest_of_message(message: str) -> str:
    """The name of a message template."""
    return hashlib.sha256(message.encode()).hexdigest()[:16]


def _job_arguments(new: NewJob) -> Arguments:
    labels = [label_index(key, value) for key, value in new.labels.items()]
    lists = (*list_argument(new.awaited), *list_argument(new.references), *list_argument(labels))
    return _entropy(), *fields_argument(_fields_of(new)), *lists


def _fields_of(new: NewJob) -> dict[str, str]:
    """What a submission says of its record; the script adds id, owner, state and times."""
    fields: dict[str, str] = {
        "kind": new.kind,
        "kind_version": str(new.kind_version),
        "pool": new.pool,
        "list": new.queue,
        "params": new.params,
        "template": digest_of_message(new.message),
        "priority": new.priority,
        "max_attempts": str(new.max_attempts),
    }
    if new.name is not None:
        fields["name"] = new.name
    if new.labels:
        fields["labels"] = json.dumps(dict(new.labels))
    if new.timeout_s is not None:
        fields["timeout_ms"] = str(int(new.timeout_s * 1000))
    if new.traceparent is not None:
        fields["traceparent"] = new.traceparent
    if new.awaited:
        fields["waits"] = " ".join(new.awaited)
    return fields


def _entropy() -> str:
    return unique_bytes(13).translate(_DIGITS).decode()
