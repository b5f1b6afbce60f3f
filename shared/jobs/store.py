"""The job store: every record, lease, index and event stream, on one Redis.

`JobStore` is the whole interface: another store could stand in its place. Each arrow of a job's life is one small Lua
script (folder `scripts`), so it happens whole or not at all, whoever dies meanwhile. Writers name the attempt and claim
they hold and are refused (`LeaseLost`) when either is stale.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import redis

from shared.jobs.errors import BadRequest, Conflict, FieldError, LeaseLost, NotFound, QuotaExceeded, UnknownReference
from shared.jobs.record import SUMMARY_FIELDS, JobRecord, Priority
from shared.jobs.states import JobState

PREFIX = "tf:"
IDEMPOTENCY_MS = 24 * 3600 * 1000
LOG_BYTES = 4 * 2**20  # kept of a running job's log
RETRY_BASE_MS, RETRY_LONGEST_MS = 5_000, 300_000
WALK = 2_000  # index entries one page may look at

_SCRIPTS = Path(__file__).with_name("scripts")
_ENTROPY = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ" * 8  # a base32 digit for each byte


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
    record: JobRecord | None = None  # of a job that was created, as it was written


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
        chosen = [f"kind:{self.kind}" if self.kind else "", f"state:{self.state}" if self.state else ""]
        chosen += [f"owner:{self.owner}" if self.owner is not None else ""]
        chosen += [f"label:{label_index(key, value)}" for key, value in self.labels]
        return [f"{PREFIX}ix:{name}" for name in chosen if name] or [f"{PREFIX}ix:all"]


class JobStore:
    """The verbs of a job's life. Thread-safe; make one per process."""

    def __init__(self, client: "redis.Redis[str]") -> None:
        self.redis: Any = client
        lib = (_SCRIPTS / "lib.lua").read_text()
        names = [path.stem for path in _SCRIPTS.glob("*.lua") if path.stem != "lib"]
        self._scripts = {
            name: client.register_script(lib + (_SCRIPTS / f"{name}.lua").read_text()) for name in sorted(names)
        }

    @classmethod
    def connect(cls, url: str) -> "JobStore":
        """A store over a URL, with timeouts everywhere: nothing may hang on a dead peer."""
        return cls(
            redis.Redis.from_url(
                url, decode_responses=True, socket_timeout=30, socket_connect_timeout=5, socket_keepalive=True,
                health_check_interval=10, max_connections=1000,
            )
        )  # fmt: skip

    # Submitting ---------------------------------------------------------------------------------------------------

    def submit(self, new: NewJob, by: Submission) -> Submitted:
        """Record, indexes, idempotency key and message in one step.

        Raises QuotaExceeded, UnknownReference, BadRequest.
        """
        fields = _fields_of(new)
        answer = self._run("submit", *self._submission(by), *_templates([new]), "0", 1, *_encode(new, fields))
        submitted = self._submitted(answer)
        if not submitted.created:
            return submitted
        _, _, created_ms, job_id, state = answer
        written = {"id": job_id, "owner": by.owner, "state": state, "created_ms": created_ms}
        return submitted._replace(record=JobRecord.from_hash({**fields, **written, "attempt": "0", "losses": "0"}))

    def submit_sweep(self, jobs: Sequence[NewJob], about: Mapping[str, str], by: Submission) -> Submitted:
        """All jobs of a sweep, or none; `about` are the sweep's own opaque fields."""
        encoded = [item for new in jobs for item in _encode(new, _fields_of(new))]
        head = (*self._submission(by), *_templates(jobs))
        answer = self._run("submit", *head, "1", _entropy(), *_fields(about), len(jobs), *encoded)
        return self._submitted(answer)

    def submitted_before(self, by: Submission) -> Submitted | None:
        """What this key and body brought before, if they did. Raises BadRequest for another body."""
        if not by.idempotency_key:
            return None
        fingerprint, id = self.redis.hmget(f"{PREFIX}idem:{by.owner}:{by.idempotency_key}", "fingerprint", "id")
        if id is None:
            return None
        return self._submitted(["same", id] if fingerprint == by.fingerprint else ["other_body"])

    def _submission(self, by: Submission) -> tuple[str | int, ...]:
        key = f"{by.owner}:{by.idempotency_key}" if by.idempotency_key else ""
        return by.owner, by.max_unfinished, key, by.fingerprint, IDEMPOTENCY_MS

    def _submitted(self, answer: list[Any]) -> Submitted:
        match answer:
            case ["ok", sweep, _, *jobs]:
                ids = tuple(jobs[::2])
                return Submitted(sweep or ids[0], ids, created=True)
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
        raise AssertionError(f"submit answered {answer}")

    # Reading ------------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> JobRecord:
        """The record. Raises NotFound."""
        fields = self.redis.hgetall(f"{PREFIX}job:{job_id}")
        if not fields:
            raise NotFound(f"there is no job {job_id}")
        return JobRecord.from_hash(fields)

    def state(self, job_id: str) -> JobState | None:
        text = self.redis.hget(f"{PREFIX}job:{job_id}", "state")
        return JobState(text) if text else None

    def waiting_for(self, job_id: str) -> list[str]:
        """The jobs a blocked one still waits for."""
        return sorted(self.redis.smembers(f"{PREFIX}waiting:{job_id}"))

    def unfinished_users(self, reference: str) -> list[str]:
        """The unfinished jobs whose params refer to `file:<sha256>` or `job:<id>`."""
        users = sorted(self.redis.smembers(f"{PREFIX}uses:{reference}"))
        states = self._pipeline([("hget", f"{PREFIX}job:{job_id}", "state") for job_id in users])
        return [job_id for job_id, state in zip(users, states, strict=True) if state and not JobState(state).is_final]

    def find(self, query: Query) -> Page:
        """Newest first, without params, result and artifacts. Walks the smallest index and asks the others."""
        keys = query.indexes()
        if len(keys) > 1:
            sizes = self._pipeline([("zcard", key) for key in keys])
            keys = [key for _, key in sorted(zip(sizes, keys, strict=True))]
        found: list[str] = []
        cursor = query.cursor
        for _ in range(max(1, WALK // 200)):
            batch = self._batch(keys[0], cursor, 200 if len(keys) > 1 else query.limit)
            for job_id, is_match in zip(batch, self._matches(keys[1:], batch), strict=True):
                cursor = job_id
                if is_match:
                    found.append(job_id)
                if len(found) == query.limit:
                    return Page(self.summaries(found), cursor)
            if len(batch) < (200 if len(keys) > 1 else query.limit):
                return Page(self.summaries(found), None)
        return Page(self.summaries(found), cursor)

    def summaries(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """Records without their large fields; those gone meanwhile are left out."""
        rows = self._pipeline([("hmget", f"{PREFIX}job:{job_id}", SUMMARY_FIELDS) for job_id in job_ids])
        dicts = ({k: v for k, v in zip(SUMMARY_FIELDS, row, strict=True) if v is not None} for row in rows)
        return [JobRecord.from_hash(fields) for fields in dicts if "id" in fields]

    def _batch(self, key: str, before: str | None, count: int) -> list[str]:
        top = f"({before}" if before else "+"
        return list(self.redis.zrevrangebylex(key, top, "-", start=0, num=count))

    def _matches(self, keys: Sequence[str], ids: Sequence[str]) -> list[bool]:
        if not keys or not ids:
            return [True] * len(ids)
        columns = self._pipeline([("zmscore", key, list(ids)) for key in keys])
        return [all(column[n] is not None for column in columns) for n in range(len(ids))]

    # A claim's life -----------------------------------------------------------------------------------------------

    def claim(self, job_id: str, attempt: int, worker: "Worker") -> tuple[Claim, JobRecord] | None:
        """Take the job for one attempt; None when the message is stale, the job cancelled, or another was first."""
        token = secrets.token_hex(8)
        answer = self._run(
            "claim", job_id, attempt, token, worker.name, worker.pid, int(worker.lease_ttl_s * 1000), worker.threads
        )
        if not answer:
            return None
        record = JobRecord.from_hash(dict(zip(answer[::2], answer[1::2], strict=True)))
        return Claim(job_id, attempt, token), record

    def renew(self, claim: Claim, ttl_s: float) -> Flags:
        """Prolong the lease. Raises LeaseLost."""
        return self._flags(self._run("renew", *claim, int(ttl_s * 1000)), claim)

    def flags(self, claim: Claim) -> Flags:
        """What is asked of a running job, without prolonging its lease. Raises LeaseLost."""
        fields = ("attempt", "claim", "cancel_requested_ms", "hand_back")
        attempt, token, cancel, hand_back = self.redis.hmget(f"{PREFIX}job:{claim.job_id}", fields)
        if (attempt, token) != (str(claim.attempt), claim.token):
            raise LeaseLost(f"job {claim.job_id} is no longer attempt {claim.attempt}'s")
        return Flags(cancel is not None, hand_back is not None, False)

    def report(self, claim: Claim, report: Report) -> Flags:
        """Progress, artifacts, checkpoint pointer, events and log of a running job. Raises LeaseLost."""
        events = [text for event in report.events for text in event]
        answer = self._run("report", *claim, LOG_BYTES, report.log, *_fields(report.fields), len(events), *events)
        return self._flags(answer, claim)

    def commit(self, claim: Claim, outcome: Outcome) -> JobState:
        """Publish the outcome and release dependants; the state it really ended in. Raises LeaseLost."""
        answer = self._run(
            "commit", *claim, outcome.state, *_fields(outcome.fields), outcome.error_type, outcome.error_message,
            int(outcome.error_retryable),
        )  # fmt: skip
        return JobState(self._held(answer, claim))

    def hand_back(self, claim: Claim) -> JobState:
        """To the queue again at once; counts no loss. Raises LeaseLost."""
        return JobState(self._held(self._run("hand_back", *claim), claim))

    def retry_later(self, claim: Claim, error_type: str, message: str) -> JobState:
        """A retryable error: queued again after 5 s · 2ⁿ (at most 5 min), or failed. Raises LeaseLost."""
        answer = self._run("retry_later", *claim, error_type, message, RETRY_BASE_MS, RETRY_LONGEST_MS)
        return JobState(self._held(answer, claim))

    def decline(self, job_id: str, attempt: int, delay_s: float = 2.0) -> None:
        """Put back a message that this worker can't run: it doesn't know the kind."""
        self._run("decline", job_id, attempt, int(delay_s * 1000))

    # What others do to a job --------------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> JobState:
        """Cancel at once, or ask the running worker to. Raises NotFound, Conflict for a finished job."""
        answer = self._run("cancel", job_id)
        if answer is None:
            raise NotFound(f"there is no job {job_id}")
        if answer.startswith("final:"):
            raise Conflict(f"job {job_id} is {answer[6:]} already: there is nothing to cancel")
        return JobState(answer)

    def retry(self, job_id: str, message: str, queue: str) -> JobState:
        """Queue a failed or cancelled job again, from its last checkpoint, its losses forgotten."""
        awaited = _list(self.get(job_id).waits)
        answer = self._run("retry", job_id, *awaited, _digest(message), message, queue)
        if answer is None:
            raise NotFound(f"there is no job {job_id}")
        if answer.startswith("not:"):
            raise Conflict(f"job {job_id} is {answer[4:]}: only failed or cancelled jobs can be retried")
        if answer.startswith("unmet:"):
            raise Conflict(f"job {job_id} needs job {answer[6:]}, which did not succeed: retry that one first")
        return JobState(answer)

    def forget(self, job_id: str, *, with_files: bool) -> None:
        """Remove a finished job's record; with its files they become garbage too. Raises NotFound, Conflict."""
        record = self.get(job_id)
        labels = [label_index(key, value) for key, value in json.loads(record.labels).items()]
        references = references_in_json(record.params)
        answer = self._run("forget", job_id, int(with_files), *_list(references), *_list(labels))
        if answer is None:
            raise NotFound(f"there is no job {job_id}")
        if answer.startswith("not:"):
            raise Conflict(f"job {job_id} is {answer[4:]}: cancel it first")
        if answer.startswith("used:"):
            raise Conflict(f"job {job_id} is needed by the unfinished job {answer[5:]}")

    def lose(self, job_id: str, attempt: int, *, only_expired: bool = False) -> JobState | None:
        """The worker of this attempt is gone: queue the next attempt, or end the job. None: nothing to lose."""
        answer = self._run("lose", job_id, attempt, int(only_expired))
        return JobState(answer) if answer else None

    def held_by(self, worker: str) -> list[str]:
        """The jobs a worker runs."""
        return list(self.redis.smembers(f"{PREFIX}held:{worker}"))

    def request_hand_back(self, worker: str) -> list[str]:
        """Ask the jobs that a stopping worker holds to hand themselves back."""
        return list(self._run("request_hand_back", worker))

    # Event streams over HTTP --------------------------------------------------------------------------------------

    def hold_stream(self, caller: str, stream: str, cap: int, for_s: float) -> bool:
        """One open event stream of this caller, kept for a while; False when the caller has `cap` already."""
        return bool(self._run("stream_slot", caller, stream, cap, int(for_s * 1000)))

    def release_stream(self, caller: str, stream: str) -> None:
        self.redis.zrem(f"{PREFIX}streams:{caller}", stream)

    # What the reconciler does -------------------------------------------------------------------------------------

    def expired(self, limit: int = 1000) -> list[str]:
        """Running jobs whose lease has run out, oldest first."""
        now_ms = self.now_ms()
        return list(self.redis.zrangebyscore(f"{PREFIX}leases", "-inf", now_ms, start=0, num=limit))

    def push_due(self, limit: int = 1000) -> int:
        """Push the messages of retried jobs whose time has come."""
        return int(self._run("push_due", limit))

    def republish(self, queue: str, patience_s: float = 10.0, limit: int = 1000) -> list[str]:
        """Push again the messages that left their list unclaimed."""
        return list(self._run("republish", queue, int(patience_s * 1000), limit))

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    # Plumbing -----------------------------------------------------------------------------------------------------

    def _run(self, name: str, *args: str | int) -> Any:
        return self._scripts[name](args=args)

    def _pipeline(self, commands: Sequence[tuple[Any, ...]]) -> Any:
        if not commands:
            return []
        with self.redis.pipeline(transaction=False) as pipe:
            for name, *args in commands:
                getattr(pipe, name)(*args)
            return pipe.execute()

    def _held(self, answer: Any, claim: Claim) -> Any:
        if answer is None:
            raise LeaseLost(f"job {claim.job_id} is no longer attempt {claim.attempt}'s")
        return answer

    def _flags(self, answer: Any, claim: Claim) -> Flags:
        return Flags(*(bool(flag) for flag in self._held(answer, claim)))


@dataclass(frozen=True)
class Worker:
    """Who claims: the worker's name, the process that runs the job, its lease and its threads."""

    name: str
    pid: int
    lease_ttl_s: float = 15.0
    threads: int = 1


def label_index(key: str, value: str) -> str:
    return f"{key}={value}"


def reference_index(reference: str) -> str:
    """The name under which uses of a reference are counted: `file:<sha256>`, or `job:<id>` whatever the artifact."""
    return reference.partition("/")[0] if reference.startswith("job:") else reference


def references_in_json(params: str) -> list[str]:
    """The references in a params text, as they are counted; a text that only looks like one does no harm."""
    return sorted(set(_references_in(json.loads(params))))


def _references_in(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith(("file:", "job:")):
        yield reference_index(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references_in(item)


def _entropy() -> str:
    return secrets.token_bytes(13).translate(_ENTROPY).decode()


def _list(items: Sequence[str]) -> tuple[str | int, ...]:
    return len(items), *items


def _fields(fields: Mapping[str, str]) -> tuple[str | int, ...]:
    flat = [text for pair in fields.items() for text in pair]
    return len(flat), *flat


def _digest(message: str) -> str:
    return hashlib.sha256(message.encode()).hexdigest()[:16]


def _templates(jobs: Sequence[NewJob]) -> tuple[str | int, ...]:
    return _fields({_digest(message): message for message in {new.message for new in jobs}})


def _fields_of(new: NewJob) -> dict[str, str]:
    """What a submission says of its record; the script adds id, owner, state and times."""
    fields: dict[str, str] = {
        "kind": new.kind,
        "kind_version": str(new.kind_version),
        "pool": new.pool,
        "list": new.queue,
        "params": new.params,
        "template": _digest(new.message),
        "priority": new.priority,
        "max_attempts": str(new.max_attempts),
    }
    if new.name is not None:
        fields["name"] = new.name
    if new.labels:
        fields["labels"] = json.dumps(dict(new.labels))
    if new.timeout_s is not None:
        fields["timeout_ms"] = str(int(new.timeout_s * 1000))
    if new.awaited:
        fields["waits"] = " ".join(new.awaited)
    return fields


def _encode(new: NewJob, fields: Mapping[str, str]) -> tuple[str | int, ...]:
    labels = [label_index(key, value) for key, value in new.labels.items()]
    return _entropy(), *_fields(fields), *_list(new.awaited), *_list(new.references), *_list(labels)
