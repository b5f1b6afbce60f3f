"""One delivery of a job: claim, run, commit. The broker may deliver twice; the outcome happens once.

The order of a commit: artifacts, `log.txt`, `manifest.json` in the claim's prefix; one fenced script that publishes
state, result, artifact list and the prefix; then `committed.json`. A prefix that no record points to is rubbish.
"""

import json
import os
import secrets
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import redis
import structlog
from pydantic import ValidationError
from structlog.contextvars import bound_contextvars

from shared import tracing
from shared.artifacts import ArtifactStore
from shared.jobs.catalog import catalog, find
from shared.jobs.context import Artifact, digest_of, media_type_of
from shared.jobs.errors import Cancelled, HandBack, Interrupted, LeaseLost, NotFound, Permanent, Retryable, TimedOut
from shared.jobs.history import write_committed
from shared.jobs.layout import LOG, MANIFEST, job_file
from shared.jobs.record import JobRecord
from shared.jobs.redteam import Redteam
from shared.jobs.spec import JobSpec
from shared.jobs.states import JobState
from shared.jobs.store import PREFIX, Claim, JobStore, Outcome, Worker
from shared.jobs.tokens import Scope
from shared.settings import Settings
from workers.runtime.claim_context import ClaimContext
from workers.runtime.heartbeat import Heartbeat, Lease, interruption_of
from workers.runtime.inputs import Inputs
from workers.runtime.manifest import manifest_of
from workers.runtime.registry import entry_of
from workers.runtime.threads import fix_threads

RESULT_BYTES = 64 * 1024
T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True)
class Runtime:
    """What a worker process runs jobs with."""

    settings: Settings
    store: JobStore
    artifacts: ArtifactStore
    worker: Worker

    def inputs(self) -> Inputs:
        return Inputs(self.store, self.artifacts, self.settings)


def deliver(job_id: str, attempt: int, runtime: Runtime, traceparent: str | None = None) -> JobState | None:
    """Run one delivery of a job. None: a duplicate, or a stale message; dropping it is right.

    `traceparent` is the trace of the request that submitted the job, from the message's headers.
    """
    span = tracing.span("attempt", traceparent, job_id=job_id, attempt=attempt)
    with bound_contextvars(job_id=job_id, attempt=attempt), span:
        try:
            state = _run_claimed(job_id, attempt, runtime, traceparent)
        except LeaseLost as lost:
            log.warning("lease lost", why=lost.message)
            tracing.mark_failed("lease lost")
            return None
        tracing.annotate(state=str(state or "dropped"))
        return state


def _run_claimed(job_id: str, attempt: int, runtime: Runtime, traceparent: str | None) -> JobState | None:
    with tracing.span("claim"):
        claimed = _claim(job_id, attempt, runtime)
    if claimed is None:
        return None
    record = claimed[1]
    tracing.past("queue", record.wait_ms / 1000, traceparent, record.claimed_ms)
    tracing.annotate(kind=record.kind, pool=record.pool)
    with bound_contextvars(kind=record.kind):
        log.info("claimed")
        state = _Attempt(*claimed, runtime).run()
        log.info("ended", state=str(state))
    return state


def _claim(job_id: str, attempt: int, runtime: Runtime) -> tuple[Claim, JobRecord] | None:
    token = secrets.token_hex(8)  # the same at every try: the one that came through is the one that counts
    call = partial(runtime.store.claim, job_id, attempt, runtime.worker, token)
    return patiently(call, runtime.settings.lease_ttl_s)


def patiently(call: Callable[[], T], for_s: float) -> T:
    """A call to the store, tried for one lease TTL: an outage shorter than that loses no work. Raises LeaseLost."""
    deadline = time.monotonic() + for_s
    while True:
        try:
            return call()
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise LeaseLost("the store can't be reached") from None
            time.sleep(0.1)


class _Attempt:
    """One claim, from its first line of log to its outcome."""

    def __init__(self, claim: Claim, record: JobRecord, runtime: Runtime) -> None:
        self.claim, self.record, self.runtime = claim, record, runtime
        self.store, self.artifacts = runtime.store, runtime.artifacts
        self.work_dir = runtime.settings.data.resolve() / "work" / f"{claim.job_id}-{claim.prefix}"

    def run(self) -> JobState:
        os.environ["TENFOLD_JOB"] = self.claim.job_id  # by it a killed job's own subprocesses are found
        settings = self.runtime.settings
        time_left_s = (self.record.timeout_ms - self.record.ran_ms) / 1000 if self.record.timeout_ms else None
        lease = Lease(settings.lease_ttl_s, settings.lease_renew_s, time_left_s)
        try:
            with Heartbeat(self.store, self.claim, lease) as heartbeat, fix_threads(self.record.threads or 1):
                return self._outcome(heartbeat)
        finally:
            os.environ.pop("TENFOLD_JOB", None)
            shutil.rmtree(self.work_dir, ignore_errors=True)

    def _outcome(self, heartbeat: Heartbeat) -> JobState:
        ctx: ClaimContext | None = None
        try:
            spec = find(self.record.kind)
            ctx = self._open(heartbeat)
            return self._succeed(spec, ctx, heartbeat)
        except Exception as failure:  # the only broad catch in the tree: a job's failure is its outcome
            interruption = interruption_of(failure)
            if interruption is not None:
                return self._interrupt(interruption, ctx, heartbeat)
            if isinstance(failure, redis.RedisError):
                raise LeaseLost("the store can't be reached") from failure
            return self._fail(failure, ctx, heartbeat)
        finally:
            if ctx is not None:
                ctx.release()

    def _open(self, heartbeat: Heartbeat) -> ClaimContext:
        return ClaimContext(
            self.claim, self.record, heartbeat, self.artifacts, self.runtime.inputs(), Path(self.work_dir)
        )

    # How an attempt ends ------------------------------------------------------------------------------------------

    def _succeed(self, spec: JobSpec, ctx: ClaimContext, heartbeat: Heartbeat) -> JobState:
        params = spec.params.model_validate_json(self.record.params)
        started = time.monotonic()
        with ctx.traced():
            result = entry_of(spec.kind)(params, ctx)
        ctx.timing("run", time.monotonic() - started)
        text = result.model_dump_json()
        if len(text.encode()) > RESULT_BYTES:
            raise Permanent(
                f"the result is {len(text.encode())} bytes, more than {RESULT_BYTES}: an error of the method"
            )
        with tracing.span("commit"):
            ctx.close_journals()
            listed = self._write_manifest(ctx, heartbeat, spec, json.loads(text))
            fields = {**self._files(ctx, listed), "result": text}
            return self._commit(Outcome(JobState.SUCCEEDED, fields))

    def _interrupt(self, interruption: Interrupted, ctx: ClaimContext | None, heartbeat: Heartbeat) -> JobState:
        if isinstance(interruption, HandBack):
            heartbeat.log("handed back: the worker is stopping", {"message": "handed back"})
            self._patiently(heartbeat.flush)
            return self._patiently(lambda: self.store.hand_back(self.claim))
        if isinstance(interruption, Cancelled):
            return self._end(Outcome(JobState.CANCELLED), ctx, heartbeat)
        if isinstance(interruption, TimedOut):
            seconds = (self.record.timeout_ms or 0) / 1000
            message = (
                f"the job ran longer than its timeout_s of {seconds:g} s; retry it to go on from its last checkpoint"
            )
            return self._end(Outcome(JobState.FAILED, {}, "timeout", message, True), ctx, heartbeat)
        raise interruption

    def _fail(self, failure: Exception, ctx: ClaimContext | None, heartbeat: Heartbeat) -> JobState:
        kind, message = _words(failure)
        tracing.mark_failed(kind)
        # Whoever raised Permanent has said all there is to say; of anything else one wants to know where it happened.
        where = "" if isinstance(failure, Permanent) else "\n" + "".join(traceback.format_exception(failure))
        heartbeat.log(f"{kind}: {message}{where}", {"message": message})
        if isinstance(failure, Retryable):
            self._patiently(heartbeat.flush)
            return self._after_retryable(kind, message, ctx, heartbeat)
        return self._end(Outcome(JobState.FAILED, {}, kind, message), ctx, heartbeat)

    def _after_retryable(self, kind: str, message: str, ctx: ClaimContext | None, heartbeat: Heartbeat) -> JobState:
        if self.record.losses + 1 >= self.record.max_attempts:
            return self._end(Outcome(JobState.FAILED, {}, kind, message, True), ctx, heartbeat)
        return self._patiently(lambda: self.store.retry_later(self.claim, kind, message))

    def _end(self, outcome: Outcome, ctx: ClaimContext | None, heartbeat: Heartbeat) -> JobState:
        """Any end but success: log and manifest are kept, with whatever artifacts were finished."""
        with tracing.span("commit"):
            listed = self._write_manifest(ctx, heartbeat, None, None)
            return self._commit(outcome._replace(fields=self._files(ctx, listed)))

    # The commit ---------------------------------------------------------------------------------------------------

    def _write_manifest(
        self, ctx: ClaimContext | None, heartbeat: Heartbeat, spec: JobSpec | None, metrics: Any
    ) -> list[Artifact]:
        """Put log.txt and manifest.json; the artifacts as they will be listed."""
        self._patiently(heartbeat.flush)
        finished = ctx.artifacts if ctx else ()
        self.work_dir.mkdir(parents=True, exist_ok=True)
        text: str = self._patiently(lambda: self.store.redis.get(f"{PREFIX}log:{self.claim.job_id}")) or ""
        manifest = manifest_of(
            spec, self.record, json.loads(self.record.params), ctx.inputs_read if ctx else {}, finished
        )
        manifest["metrics"] = metrics
        return [
            *finished,
            self._put(LOG, text.encode()),
            self._put(MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True).encode()),
        ]

    def _put(self, name: str, data: bytes) -> Artifact:
        path = self.work_dir / f"own-{name}"
        path.write_bytes(data)
        self.artifacts.put_file(job_file(self.claim.job_id, self.claim.prefix, name), path)
        digest, size = digest_of(path)
        return Artifact(name, media_type_of(name), size, digest)

    def _files(self, ctx: ClaimContext | None, listed: list[Artifact]) -> dict[str, str]:
        artifacts = json.dumps([artifact.__dict__ for artifact in sorted(listed, key=lambda a: a.name)])
        timings = json.dumps(ctx.timings if ctx else {})
        return {"artifacts": artifacts, "prefix": self.claim.prefix, "timings": timings}

    def _commit(self, outcome: Outcome) -> JobState:
        """The fenced commit; one whose answer got lost is looked up in the record."""
        try:
            state = self._patiently(lambda: self.store.commit(self.claim, outcome))
        except LeaseLost:
            state = self._already_committed()
        self._commit_history()
        self._note_in_the_trail(outcome, state)
        return state

    def _note_in_the_trail(self, outcome: Outcome, state: JobState) -> None:
        """How a red-team job ended, with counts and digests, never text."""
        spec = catalog().get(self.record.kind)
        if spec is None or spec.scope != Scope.REDTEAM:
            return
        result = json.loads(outcome.fields.get("result", "{}"))
        told = {name: result[name] for name in ("counts", "items", "provenance") if name in result}
        detail = f"{spec.kind} {self.record.id} {state} {json.dumps(told, sort_keys=True)}"
        self._patiently(lambda: Redteam(self.store).record(self.record.owner, "ended", detail))

    def _patiently(self, call: Callable[[], T]) -> T:
        return patiently(call, self.runtime.settings.lease_ttl_s)

    def _already_committed(self) -> JobState:
        try:
            record = self._patiently(lambda: self.store.get(self.claim.job_id))
        except NotFound:
            raise LeaseLost(f"job {self.claim.job_id} is gone") from None
        if not (record.state.is_final and record.prefix == self.claim.prefix):
            raise LeaseLost(f"job {self.claim.job_id} is no longer attempt {self.claim.attempt}'s")
        return record.state

    def _commit_history(self) -> None:
        try:
            write_committed(self.claim.job_id, self.store, self.artifacts)
        except (redis.RedisError, OSError) as error:  # the reconciler writes it
            log.warning("committed.json not written yet", error=str(error))


def _words(failure: Exception) -> tuple[str, str]:
    """(type, message) of a failure, for the person who submitted the job."""
    if isinstance(failure, Permanent):
        return failure.type, failure.message
    if isinstance(failure, Retryable):
        return "retryable", failure.message
    if isinstance(failure, ValidationError):
        return "invalid_params", f"the stored params no longer fit this version of the kind: {failure}"
    return "error", f"{type(failure).__name__}: {failure}"
