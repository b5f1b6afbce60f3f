"""What guards the kinds that run against models of the red-team list (docs/dsn.md says why).

Off by the deployment's switch they don't exist here: not listed, and a submit is answered 403 as it is without the
scope. On, a submission needs the scope, a model of the list, the operator's key where text is to be kept or read, and
that its owner has no other such job unfinished.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from services.gateway.auth import caller, require
from services.gateway.problems import Problem
from services.gateway.state import gateway
from shared.data.builtin import STAND_INS, shipped
from shared.jobs.artifact_names import pick
from shared.jobs.catalog import catalog
from shared.jobs.errors import BadRequest, FieldError, NotFound, QuotaExceeded
from shared.jobs.record import JobRecord
from shared.jobs.redteam import SEALED, AllowedModel, Redteam
from shared.jobs.references import Ref, references_in
from shared.jobs.spec import JobSpec, Params
from shared.jobs.states import JobState
from shared.jobs.store import PREFIX, Query
from shared.jobs.tokens import Scope
from shared.jobs.weights import weight_digest

UNFINISHED = (JobState.BLOCKED, JobState.QUEUED, JobState.RUNNING)
SUBMITTING_MS = 30_000  # how long one submission may take; then its lock ends by itself
Path_ = tuple[str | int, ...]


def offered() -> Mapping[str, JobSpec]:
    """The kinds of this deployment."""
    if gateway().settings.redteam:
        return catalog()
    return MappingProxyType({kind: spec for kind, spec in catalog().items() if spec.scope != Scope.REDTEAM})


def authorise(spec: JobSpec) -> None:
    """A kind may need a scope of its own. Raises Problem 403, for red-team kinds without detail."""
    if spec.scope is None:
        return
    if spec.scope == Scope.REDTEAM and not (gateway().settings.redteam and Scope.REDTEAM in caller().scopes):
        raise Problem("forbidden", "this kind is not for you")
    require(Scope(spec.scope))


def check(spec: JobSpec, params: Params, at: Path_) -> None:
    """Everything about a submission that its schema doesn't show. Raises Problem 403, BadRequest."""
    refs = list(references_in(params))
    if not spec.attacks:
        _keep_sealed(refs, at)
    if spec.scope != Scope.REDTEAM:
        return
    if getattr(params, "reveal", False):
        require(Scope.REDTEAM_REVEAL)
        _need_key(at, "reveal", "text is only ever kept encrypted")
    for path, ref in refs:
        if ref.artifact is not None and _names_sealed(ref):
            _need_key(at, *path, "it is encrypted")
        if ref.scheme == "endpoint" and gateway().settings.redteam_remote_judges == "off":
            message = "judges behind endpoints are off here; the operator sets TENFOLD_REDTEAM_REMOTE_JUDGES"
            raise BadRequest(message, [FieldError((*at, *path), message, "remote_judge")])
    if gateway().settings.redteam == "stand_in":
        _only_stand_ins([ref for _, ref in refs])


@contextmanager
def one_at_a_time(spec: JobSpec, jobs: int = 1) -> Iterator[None]:
    """Around a submission: an owner has at most one unfinished job that attacks. Raises QuotaExceeded."""
    if not spec.attacks:
        yield
        return
    lock, mine, redis = f"{PREFIX}attacking:{caller().owner}", secrets.token_hex(8), gateway().store.redis
    if jobs > 1 or not redis.set(lock, mine, nx=True, px=SUBMITTING_MS):
        raise QuotaExceeded("attacks run one at a time: submit the next when this one is final")
    try:
        if found := _unfinished_attack():
            raise QuotaExceeded(f"your job {found} is unfinished: attacks run one at a time; wait for it or cancel it")
        yield
    finally:
        if redis.get(lock) == mine:
            redis.delete(lock)


def keeps_sealed(spec: JobSpec, jobs: Iterable[str]) -> None:
    """Note jobs whose encrypted artifacts are to go after some days."""
    if spec.sealed and jobs:
        now_ms = gateway().store.now_ms()
        gateway().store.redis.zadd(SEALED, dict.fromkeys(jobs, now_ms))


def guard_download(record: JobRecord, name: str) -> None:
    """Encrypted text is handed out to holders of `redteam:reveal`, and that is noted. Raises Problem 403."""
    spec = catalog().get(record.kind)
    if name.endswith(".enc") and (spec is None or name in spec.sealed):
        require(Scope.REDTEAM_REVEAL)
        Redteam(gateway().store).record(caller().owner, "reveal", f"{record.kind} {record.id} {name}")


def allow(name: str, ref: Ref, pinned: str | None) -> AllowedModel:
    """Put a model on the list, pinned by the digest of its weights. Raises BadRequest."""
    found = _digest(ref)
    if pinned and found and pinned != found:
        message = f"the weights of {ref} have the digest {found}"
        raise BadRequest(message, [FieldError(("body", "digest"), message, "digest")])
    digest = found or pinned
    if digest is None:
        message = f"{ref} doesn't lie where the gateway sees it: give the digest of its weights"
        raise BadRequest(message, [FieldError(("body", "digest"), message, "missing")])
    return Redteam(gateway().store).allow(name, str(ref), caller().owner, digest)


def _digest(ref: Ref) -> str | None:
    """Of the weights behind a reference; None where they aren't on this machine. Raises BadRequest."""
    settings = gateway().settings
    match ref.scheme:
        case "file":
            _found(lambda: gateway().files.find(ref.target))
            return ref.target
        case "job":
            return _artifact_digest(ref)
        case "hub":
            folder = settings.models / ref.target if settings.models else None
        case _:
            root = settings.data.resolve() / "builtin"
            folder = root / ref.target if (root / ref.target).exists() else shipped(ref.target, root)
    return weight_digest(folder) if folder is not None and folder.exists() else None


def _artifact_digest(ref: Ref) -> str:
    from services.gateway.jobs import find_job
    from services.gateway.views import artifact_views

    record = _found(lambda: find_job(ref.job_id or ""))
    listed = {entry["name"]: entry["sha256"] for entry in artifact_views(record)}
    name = pick(list(listed), ref.artifact or "")
    if record.state is not JobState.SUCCEEDED or name is None:
        message = f"{ref} is no artifact of a job that succeeded; it has: {', '.join(sorted(listed)) or 'none'}"
        raise BadRequest(message, [FieldError(("body", "ref"), message, "unknown_reference")])
    return str(listed[name])


def _found(find: Any) -> Any:
    try:
        return find()
    except NotFound as missing:
        raise BadRequest(missing.message, [FieldError(("body", "ref"), missing.message, "unknown_reference")]) from None


def _names_sealed(ref: Ref) -> bool:
    return any(pick([name], ref.artifact or "") for spec in catalog().values() for name in spec.sealed)


def _keep_sealed(refs: list[tuple[Path_, Ref]], at: Path_) -> None:
    """Encrypted text goes into no other kind, from whose artifacts nothing would delete it. Raises BadRequest."""
    for path, ref in refs:
        if ref.artifact is not None and _names_sealed(ref) and _is_sealed(ref):
            message = f"{ref} is encrypted text of an attack; dsn.transfer alone takes it"
            raise BadRequest(message, [FieldError((*at, *path), message, "sealed")])


def _is_sealed(ref: Ref) -> bool:
    """Whether the artifact is one that its job's kind seals; other kinds may use such a name."""
    from services.gateway.jobs import find_job

    spec = catalog().get(find_job(ref.job_id or "").kind)
    return spec is None or any(pick([name], ref.artifact or "") for name in spec.sealed)


def _need_key(at: Path_, *path: str | int) -> None:
    """The last of `path` says why."""
    if gateway().settings.redteam_key is None:
        message = f"this deployment has no key (TENFOLD_REDTEAM_KEY), and {path[-1]}"
        raise BadRequest(message, [FieldError((*at, *path[:-1]), message, "no_key")])


def _only_stand_ins(refs: list[Ref]) -> None:
    """In the demo's deployment nothing is attacked but what ships with Tenfold, whoever asks."""
    for ref in refs:
        if ref.scheme == "allowed":
            entry = Redteam(gateway().store).find(ref.target)
            if entry.ref not in STAND_INS:
                raise Problem("forbidden", "this deployment attacks the built-in stand-in only")


def _unfinished_attack() -> str | None:
    kinds = [spec.kind for spec in catalog().values() if spec.attacks]
    for kind in kinds:
        for state in UNFINISHED:
            page = gateway().store.find(Query(kind=kind, state=state, owner=caller().owner, limit=1))
            if page.items:
                return page.items[0].id
    return None
