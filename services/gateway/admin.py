"""Who one is (`/v1/me`), and what an administrator does: tokens, the red-team list and its audit, gc, reindex."""

from typing import Annotated

from flask import Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.gateway import redteam
from services.gateway.auth import REDTEAM, caller, require, trusts_loopback
from services.gateway.bodies import read_model, validate_query
from services.gateway.jobs import QueryModel
from services.gateway.operations import OWNER, Answer, Operation, Routes, answer_json, answer_nothing
from services.gateway.state import gateway
from services.gateway.views import (
    AllowedList,
    AllowedView,
    AuditList,
    AuditVerdict,
    GcView,
    MeView,
    NewTokenView,
    ReindexView,
    TokenList,
    rfc3339,
)
from shared.jobs.history import reindex
from shared.jobs.redteam import AllowedModel, Redteam
from shared.jobs.references import Ref, Schemes
from shared.jobs.retention import Retention
from shared.jobs.spec import Text
from shared.jobs.tokens import Scope, Token, Tokens

routes = Routes()
ADMIN = (Scope.ADMIN,)
BODY = (400, 413, 415, 422)


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class TokenBody(Body):
    name: Annotated[Text, StringConstraints(min_length=1, max_length=200)]
    """What the token is for."""
    owner: Annotated[str, StringConstraints(pattern=OWNER)]
    """Whose jobs it submits."""
    scopes: list[Scope] = Field(min_length=1, max_length=5)
    expires_days: float | None = Field(None, gt=0, le=3650)


class AllowBody(Body):
    ref: Annotated[Ref, Schemes("hub", "file", "job", "builtin")]
    """The model that may be attacked."""
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 of its weights; needed where they don't lie on the gateway's machine."""


class GcBody(Body):
    dry_run: bool = False


class AuditQuery(QueryModel):
    after: Annotated[str, Field(pattern=r"^\d{1,16}-\d{1,16}$")] | None = None
    limit: int = Field(200, ge=1, le=1000)


@routes.add(Operation("GET", "/v1/me", "me", "The caller", {200: Answer(MeView)}))
def me() -> Response:
    return answer_json({"owner": caller().owner, "scopes": sorted(caller().scopes)})


@routes.add(
    Operation(
        "POST",
        "/v1/tokens",
        "admin",
        "Make a token",
        {201: Answer(NewTokenView, "Shown once")},
        ADMIN,
        BODY,
        None,
        TokenBody,
    )
)
def create_token() -> Response:
    body = read_model(TokenBody)
    if trusts_loopback(gateway().settings):  # else whoever sits at this machine could give it to himself
        require(*REDTEAM.intersection(body.scopes))
    token, secret = Tokens(gateway().store).create(body.name, body.owner, body.scopes, body.expires_days)
    return answer_json({**_token(token), "token": secret}, 201)


@routes.add(Operation("GET", "/v1/tokens", "admin", "Every token", {200: Answer(TokenList)}, ADMIN))
def list_tokens() -> Response:
    return answer_json({"items": [_token(token) for token in Tokens(gateway().store).all()]})


@routes.add(
    Operation(
        "DELETE", "/v1/tokens/{token_id}", "admin", "Revoke a token", {204: Answer(None, "Gone", ())}, ADMIN, (404,)
    )
)
def revoke_token(token_id: str) -> Response:
    Tokens(gateway().store).revoke(token_id)
    return answer_nothing()


@routes.add(
    Operation("GET", "/v1/redteam/allowed", "admin", "Models that may be attacked", {200: Answer(AllowedList)}, ADMIN)
)
def list_allowed() -> Response:
    return answer_json({"items": [_allowed(model) for model in Redteam(gateway().store).all()]})


@routes.add(
    Operation(
        "PUT",
        "/v1/redteam/allowed/{name}",
        "admin",
        "Allow a model",
        {200: Answer(AllowedView)},
        ADMIN,
        BODY,
        None,
        AllowBody,
    )
)
def allow_model(name: str) -> Response:
    body = read_model(AllowBody)
    return answer_json(_allowed(redteam.allow(name, body.ref, body.digest)))


@routes.add(
    Operation(
        "DELETE",
        "/v1/redteam/allowed/{name}",
        "admin",
        "Allow it no more",
        {204: Answer(None, "Gone", ())},
        ADMIN,
        (404,),
    )
)
def disallow_model(name: str) -> Response:
    Redteam(gateway().store).remove(name, caller().owner)
    return answer_nothing()


@routes.add(
    Operation(
        "GET", "/v1/redteam/audit", "admin", "The audit trail", {200: Answer(AuditList)}, ADMIN, (422,), AuditQuery
    )
)
def audit_trail() -> Response:
    query = validate_query(AuditQuery)
    entries = Redteam(gateway().store).audit(query.after or "0", query.limit)
    items = [{**entry._asdict(), "at": rfc3339(entry.at_ms)} for entry in entries]
    for item in items:
        del item["at_ms"]
    return answer_json({"items": items, "next_after": entries[-1].id if len(entries) == query.limit else None})


@routes.add(
    Operation("GET", "/v1/redteam/audit/verify", "admin", "Is the trail whole?", {200: Answer(AuditVerdict)}, ADMIN)
)
def verify_audit() -> Response:
    entries, broken_at = Redteam(gateway().store).verify()
    return answer_json({"ok": broken_at is None, "entries": entries, "broken_at": broken_at})


@routes.add(
    Operation("POST", "/v1/gc", "admin", "Clear what nobody needs", {200: Answer(GcView)}, ADMIN, BODY, None, GcBody)
)
def collect_garbage() -> Response:
    body = read_model(GcBody)
    retention = Retention(gateway().store, gateway().artifacts, gateway().settings.keep_days)
    removed = retention.collect(dry_run=body.dry_run)
    return answer_json({"removed": removed.keys, "bytes": removed.bytes, "dry_run": body.dry_run})


@routes.add(
    Operation(
        "POST", "/v1/reindex", "admin", "Rebuild records from the artifact store", {200: Answer(ReindexView)}, ADMIN
    )
)
def rebuild_index() -> Response:
    restored, skipped = reindex(gateway().store, gateway().artifacts, gateway().settings.keep_days)
    return answer_json({"restored": restored, "skipped": skipped})


def _token(token: Token) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "owner": token.owner,
        "scopes": list(token.scopes),
        "created_at": rfc3339(token.created_ms),
        "expires_at": rfc3339(token.expires_ms),
        "last_used_at": rfc3339(token.last_used_ms),
    }


def _allowed(model: AllowedModel) -> dict[str, object]:
    about = {"name": model.name, "ref": model.ref, "digest": model.digest}
    return {**about, "added_by": model.added_by, "added_at": rfc3339(model.added_ms)}
