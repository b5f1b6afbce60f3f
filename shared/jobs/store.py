"""The job store: every record, lease, index and event stream, on one Redis.

`JobStore` is the whole interface: another store could stand in its place. Each arrow of a job's life is one small Lua
script (folder `scripts`), so it happens whole or not at all, whoever dies meanwhile. Writers name the attempt and claim
they hold and are refused (`LeaseLost`) when either is stale.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from shared.jobs.claims import Claim, Flags, Outcome, Report, Worker
from shared.jobs.errors import Conflict, LeaseLost, NotFound
from shared.jobs.listing import Page, Query, label_index
from shared.jobs.record import SUMMARY_FIELDS, JobRecord
from shared.jobs.states import JobState
from shared.jobs.submissions import (
    NewJob,
    Submission,
    Submitted,
    digest_of_message,
    fields_argument,
    list_argument,
    reference_index,
    references_in_json,
    submit_arguments,
    submitted,
    submitted_job,
)
from shared.sentinel import sentinel_of

__all__ = [
    "PREFIX", "Claim", "Flags", "JobStore", "NewJob", "Outcome", "Page", "Query", "Report", "Submission", "Submitted",
    "Worker", "label_index", "reference_index", "references_in_json", "script_texts",
]  # fmt: skip

PREFIX = "tf:"
LOG_BYTES = 4 * 2**20  # kept of a running job's log
RETRY_BASE_MS, RETRY_LONGEST_MS = 5_000, 300_000
WALK = 1_000  # index entries that one page looks at
SCRIPTS = Path(__file__).with_name("scripts")


def script_texts() -> dict[str, str]:
    """The Lua scripts by name; `lib` comes before each of the others."""
    return {path.stem: path.read_text() for path in sorted(SCRIPTS.glob("*.lua"))}


class JobStore:
    """The verbs of a job's life. Thread-safe; make one per process."""

    def __init__(self, client: redis.Redis, scripts: Mapping[str, str] | None = None) -> None:
        """`scripts` are by default the ones beside this file; tests pass changed ones."""
        self.redis: Any = client
        texts = dict(scripts or script_texts())
        lib = texts.pop("lib")
        self._scripts = {name: client.register_script(lib + text) for name, text in texts.items()}

    @classmethod
    def connect(cls, url: str) -> "JobStore":
        """A store over a URL, of one Redis or of Sentinels, with timeouts everywhere: nothing may hang on a dead peer.

        A command whose connection broke is sent again, for about as long as a Redis takes to start anew; whoever can
        wait longer tries longer himself. So a script may run twice where its caller called once, and heeds that.
        """
        options: dict[str, Any] = {
            "decode_responses": True, "socket_timeout": 10, "socket_connect_timeout": 5, "socket_keepalive": True,
            "health_check_interval": 10, "max_connections": 1000,
            "retry": Retry(ExponentialBackoff(cap=1.0, base=0.05), 5),
        }  # fmt: skip
        sentinels = sentinel_of(url)
        return cls(sentinels.client(**options) if sentinels else redis.Redis.from_url(url, **options))

    # Submitting ---------------------------------------------------------------------------------------------------

    def submit(self, new: NewJob, by: Submission) -> Submitted:
        """Record, indexes, idempotency key and message in one step.

        Raises QuotaExceeded, UnknownReference, BadRequest.
        """
        return submitted_job(new, by, self._run("submit", *submit_arguments([new], by)))

    def submit_sweep(self, jobs: Sequence[NewJob], about: Mapping[str, str], by: Submission) -> Submitted:
        """All jobs of a sweep, or none; `about` are the sweep's own opaque fields."""
        return submitted(self._run("submit", *submit_arguments(jobs, by, about)))

    def submitted_before(self, by: Submission) -> Submitted | None:
        """What this key and body brought before, if they did. Raises BadRequest for another body."""
        if not by.idempotency_key:
            return None
        fingerprint, id = self.redis.hmget(f"{PREFIX}idem:{by.owner}:{by.idempotency_key}", "fingerprint", "id")
        if id is None:
            return None
        return submitted(["same", id] if fingerprint == by.fingerprint else ["other_body"])

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

    def find(self, query: Query) -> Page:
        """Newest first, without params, result and artifacts."""
        arguments = (*list_argument(query.indexes()), *list_argument(SUMMARY_FIELDS))
        cursor, *rows = self._run("find", query.cursor or "", query.limit, WALK, *arguments)
        present = ({k: v for k, v in zip(SUMMARY_FIELDS, row, strict=True) if v is not None} for row in rows)
        return Page([JobRecord.from_hash(fields) for fields in present if "id" in fields], cursor or None)

    # A claim's life -----------------------------------------------------------------------------------------------

    def claim(
        self, job_id: str, attempt: int, worker: Worker, token: str | None = None
    ) -> tuple[Claim, JobRecord] | None:
        """Take the job for one attempt; None when the message is stale, the job cancelled, or another was first.

        Who asks again, because the answer got lost, gives the same token and gets the same answer.
        """
        token = token or secrets.token_hex(8)
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
        answer = self._run(
            "report", *claim, LOG_BYTES, report.log, *fields_argument(report.fields), len(events), *events
        )
        return self._flags(answer, claim)

    def commit(self, claim: Claim, outcome: Outcome) -> JobState:
        """Publish the outcome and release dependants; the state it really ended in. Raises LeaseLost."""
        error = (outcome.error_type, outcome.error_message, int(outcome.error_retryable))
        answer = self._run("commit", *claim, outcome.state, *fields_argument(outcome.fields), *error)
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
        awaited = list_argument(self.get(job_id).waits)
        answer = self._run("retry", job_id, *awaited, digest_of_message(message), message, queue)
        if answer is None:
            raise NotFound(f"there is no job {job_id}")
        if answer.startswith("not:"):
            raise Conflict(f"job {job_id} is {answer[4:]}: only failed or cancelled jobs can be retried")
        if answer.startswith("unmet:"):
            raise Conflict(f"job {job_id} needs job {answer[6:]}, which did not succeed: retry that one first")
        return JobState(answer)

    def forget(self, job_id: str, *, with_files: bool) -> None:
        """Remove a finished job's record; with its files they become garbage too. Raises NotFound, Conflict.

        Conflict also for a job without a record (its files may still be there) that an unfinished one needs.
        """
        labels, params = self.redis.hmget(f"{PREFIX}job:{job_id}", "labels", "params")
        named = [label_index(key, value) for key, value in json.loads(labels or "{}").items()]
        references = references_in_json(params or "{}")
        answer = self._run("forget", job_id, int(with_files), *list_argument(references), *list_argument(named))
        if answer is None:
            raise NotFound(f"there is no job {job_id}")
        if answer.startswith("not:"):
            raise Conflict(f"job {job_id} is {answer[4:]}: cancel it first")
        if answer.startswith("used:"):
            raise Conflict(f"job {job_id} is needed by the unfinished job {answer[5:]}")
        if answer == "busy":
            raise Conflict(f"job {job_id}'s files are still being put in order")

    def lose(self, job_id: str, attempt: int, *, only_expired: bool = False) -> JobState | None:
        """The worker of this attempt is gone: queue the next attempt, or end the job. None: nothing to lose."""
        answer = self._run("lose", job_id, attempt, int(only_expired))
        return JobState(answer) if answer else None

    def held_by(self, worker: str) -> list[str]:
        """The jobs a worker runs."""
        return sorted(self.redis.smembers(f"{PREFIX}held:{worker}"))

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

    def expired(self, longest_s: float = 60.0, limit: int = 1000) -> list[tuple[str, int]]:
        """Running jobs whose lease has run out, oldest first, each with its attempt; no lease lasts `longest_s`."""
        answer = self._run("expired", int(longest_s * 1000), limit)
        return [(job_id, int(attempt)) for job_id, attempt in zip(answer[::2], answer[1::2], strict=True)]

    def push_due(self, limit: int = 1000) -> int:
        """Push the messages of retried jobs whose time has come."""
        return int(self._run("push_due", RETRY_LONGEST_MS, limit))

    def republish(self, queue: str, patience_s: float = 10.0, limit: int = 1000) -> list[str]:
        """Push again the messages that left their list unclaimed."""
        return list(self._run("republish", queue, int(patience_s * 1000), limit))

    def lists(self) -> list[str]:
        """Every list that messages were ever pushed to, of pools this process may not know too."""
        return sorted(self.redis.smembers(f"{PREFIX}lists"))

    def lacking_history(self, limit: int = 100) -> list[tuple[str, int]]:
        """Some finished jobs whose committed.json is not known to be written: (id, when it finished)."""
        ids = self.redis.srandmember(f"{PREFIX}uncommitted", limit)
        finished = self._pipeline([("hget", f"{PREFIX}job:{job_id}", "finished_ms") for job_id in ids])
        return [(job_id, int(ms or 0)) for job_id, ms in zip(ids, finished, strict=True)]

    def settle(self, job_id: str, attempt: str, finished_ms: str) -> str:
        """committed.json was written as the record stood: 'settled', 'changed' since, or 'deleted' meanwhile."""
        return str(self._run("settle", job_id, attempt, finished_ms))

    def restore(self, fields: Mapping[str, str], sweep: Mapping[str, str]) -> bool:
        """A finished record from history, unless it is there already or was deleted."""
        labels = [label_index(key, value) for key, value in json.loads(fields.get("labels", "{}")).items()]
        references = references_in_json(fields.get("params", "{}"))
        lists = (*list_argument(references), *list_argument(labels), *fields_argument(sweep))
        return bool(self._run("restore", fields["id"], *fields_argument(fields), *lists))

    def due(self, name: str, limit: int) -> list[tuple[str, float]]:
        """Entries of `garbage` or `untidy` whose time has come, each with its score."""
        key = f"{PREFIX}{name}"
        return list(self.redis.zrangebyscore(key, "-inf", self.now_ms(), start=0, num=limit, withscores=True))

    def strike(self, name: str, entry: tuple[str, float]) -> None:
        """A due entry was dealt with; one that was put off meanwhile stays."""
        self._run("strike", name, entry[0], int(entry[1]))

    def put_off(self, name: str, member: str, for_s: float) -> None:
        """Deal with it later."""
        self.redis.zadd(f"{PREFIX}{name}", {member: self.now_ms() + int(for_s * 1000)})

    def drop_file(self, sha256: str, before_ms: int) -> bool:
        """Forget an upload that nothing refers to and nobody used since; True: its blob may be deleted."""
        return bool(self._run("drop_file", sha256, before_ms))

    def now_ms(self) -> int:
        """Redis's clock: the only one that times in records come from."""
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
