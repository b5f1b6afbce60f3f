"""From a body to a submission: the kind's own model validates, references are looked up, the message is built."""

import hashlib
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

from flask import request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from services.gateway.auth import caller
from services.gateway.redteam import authorise, check, offered
from services.gateway.references import look_up
from services.gateway.state import gateway
from shared import tracing
from shared.broker import queue_key
from shared.jobs.catalog import catalog
from shared.jobs.errors import BadRequest, FieldError, QuotaExceeded, StorageFull, UnknownReference
from shared.jobs.record import Priority
from shared.jobs.redteam import Redteam
from shared.jobs.references import references_in
from shared.jobs.spec import Params, Text
from shared.jobs.store import NewJob, Submission, Submitted

LabelKey = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.-]{1,63}$")]
LabelValue = Annotated[Text, StringConstraints(max_length=63)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=16, description="At most 16; listings filter by them.")]
_canonical = json.JSONEncoder(sort_keys=True).encode
LONG = 200  # characters of a text, or of a list of texts, that the red-team trail tells by its digest
KEY = re.compile(r"[!-~]{1,255}\Z")


class Terms(BaseModel):
    """What a submission says beside kind and params."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[Text, StringConstraints(max_length=200)] | None = None
    """A name for people."""
    labels: Labels = Field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    max_attempts: int = Field(3, ge=1, le=100)
    """Lost workers and retryable errors until the job fails."""
    timeout_s: float | None = Field(None, ge=1, le=2_592_000)
    """Running time summed over attempts."""


class SubmitBody(Terms):
    """A submission whose kind is not looked at yet."""

    kind: str
    params: Params


@cache
def submit_model(kind: str) -> type[SubmitBody]:
    """The body model of one kind: what validates a submit and what OpenAPI shows."""
    spec = catalog()[kind]
    title = "Submit" + "".join(part.title() for part in kind.replace(".", "_").split("_"))
    fields: dict[str, Any] = {"kind": (Literal[kind], ...), "params": (spec.params, ...)}
    return create_model(title, __base__=SubmitBody, __doc__=spec.summary, **fields)


def model_for(raw: dict[str, Any]) -> type[SubmitBody]:
    """The body model that a raw body names. Raises BadRequest for an unknown kind."""
    kind = raw.get("kind")
    if isinstance(kind, str) and kind in catalog():
        authorise(catalog()[kind])  # before its params: who may not submit it learns nothing of them
    else:
        known = ", ".join(offered())
        raise BadRequest(
            f"unknown kind {kind!r}" if kind is not None else "the kind is missing",
            [FieldError(("body", "kind"), f"must be one of: {known}", "unknown_kind" if kind else "missing")],
        )
    return submit_model(kind)


def audited_params(params: Params) -> str:
    """The params for the trail, which never holds a suffix's text: `suffix_init` is a digest there. So is what is long,
    and nothing is cut off: no list of phrases can push model, purpose or behaviours out of the record."""
    told = json.loads(params.model_dump_json())
    if "suffix_init" in told:
        told["suffix_init"] = _digest(told["suffix_init"])
    return json.dumps(_shortened(told), ensure_ascii=False)


def _shortened(value: Any) -> Any:
    """The same with long texts and long lists of texts as digests."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, str):
        return value if len(value) <= LONG else _digest(value)
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            text = json.dumps(value, ensure_ascii=False)
            return value if len(text) <= LONG else _digest(text)
        return [_shortened(item) for item in value]
    return value


def _digest(text: str) -> str:
    return f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def pinned(params: Params) -> str:
    """The weights that a submission is about: every entry of the list with its digest."""
    entries = [Redteam(gateway().store).find(ref.target) for _, ref in references_in(params) if ref.scheme == "allowed"]
    return " ".join(f"{entry.name}={entry.digest}" for entry in entries)


def new_job(body: SubmitBody, at: tuple[str | int, ...] = ("body", "params")) -> NewJob:
    """A validated body as the store takes it. Raises BadRequest, UnknownReference, Problem 403."""
    spec = catalog()[body.kind]
    authorise(spec)
    used = look_up(body.params, at)
    check(spec, body.params, at)
    return NewJob(
        kind=spec.kind,
        kind_version=spec.version,
        pool=spec.pool,
        params=body.params.model_dump_json(),
        message=gateway().messages.template(spec, body.priority),
        queue=queue_key(spec.pool, body.priority),
        priority=body.priority,
        name=body.name,
        labels=body.labels,
        max_attempts=body.max_attempts,
        timeout_s=body.timeout_s,
        awaited=used.awaited,
        references=used.references,
        traceparent=tracing.traceparent(),
    )


def audit(kind: str, action: str, detail: str) -> None:
    """Note in the red-team trail what happens with a kind that needs a scope of its own."""
    if catalog()[kind].scope is not None:
        Redteam(gateway().store).record(caller().owner, action, f"{kind} {detail}")


def submission(body: dict[str, Any]) -> Submission:
    """Who submits, with the idempotency key of the request. Raises BadRequest for an odd key."""
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not KEY.match(key):
        message = "must be 1 to 255 visible ASCII characters"
        raise BadRequest(
            f"Idempotency-Key {message}", [FieldError(("header", "Idempotency-Key"), message, "idempotency_key")]
        )
    fingerprint = ""
    if key:
        fingerprint = hashlib.sha256(_canonical([request.path, body]).encode()).hexdigest()
    return Submission(caller().owner, gateway().settings.max_unfinished, key, fingerprint)


def submit_once(by: Submission, attempt: Callable[[], Submitted]) -> Submitted:
    """Submit, or bring back what the same key and body brought before.

    What was accepted once is not refused for what has changed since: an upload is gone, the store is full.
    """
    try:
        return attempt()
    except (UnknownReference, StorageFull, QuotaExceeded):
        earlier = gateway().store.submitted_before(by)
        if earlier is None:
            raise
        return earlier
