"""Looking references up at submit: what leads nowhere is refused at once, with the path of its field."""

import json
from typing import NamedTuple

from services.gateway.state import gateway
from shared.endpoints import EndpointsError, find_endpoint, read_endpoints
from shared.jobs.artifact_names import pick
from shared.jobs.errors import FieldError, NotFound, UnknownReference
from shared.jobs.history import read_committed
from shared.jobs.record import JobRecord
from shared.jobs.redteam import Redteam
from shared.jobs.references import Ref, references_in
from shared.jobs.spec import Params
from shared.jobs.states import JobState
from shared.jobs.store import reference_index

Path_ = tuple[str | int, ...]


class Used(NamedTuple):
    """The references of a submission: jobs known to the store, and everything that is counted."""

    awaited: tuple[str, ...]
    references: tuple[str, ...]


def look_up(params: Params, at: Path_) -> Used:
    """Raises UnknownReference naming every field whose reference leads nowhere."""
    awaited: set[str] = set()
    counted: set[str] = set()
    errors: list[FieldError] = []
    for path, ref in references_in(params):
        try:
            if _check(ref):
                awaited.add(ref.job_id or "")
        except NotFound as missing:
            errors.append(FieldError((*at, *path), missing.message, "unknown_reference"))
            continue
        if ref.scheme in ("file", "job"):
            counted.add(reference_index(ref))
    if errors:
        raise UnknownReference("a reference leads nowhere", errors)
    return Used(tuple(sorted(awaited)), tuple(sorted(counted)))


def _check(ref: Ref) -> bool:
    """Raises NotFound when the reference leads nowhere; True for a job that the store knows."""
    match ref.scheme:
        case "file":
            gateway().files.find(ref.target)
        case "job":
            return _check_job(ref)
        case "endpoint":
            _check_endpoint(ref)
        case "allowed":
            Redteam(gateway().store).find(ref.target)
    return False


def _check_job(ref: Ref) -> bool:
    job_id = ref.job_id or ""
    state = gateway().store.state(job_id)
    if state is None:
        _check_finished(ref, read_committed(job_id, gateway().artifacts))
        return False
    if state.is_final:
        _check_finished(ref, gateway().store.get(job_id))
    return True


def _check_finished(ref: Ref, record: JobRecord) -> None:
    if record.state is not JobState.SUCCEEDED:
        raise NotFound(f"job {record.id} is {record.state}: its artifacts can't be used")
    names = [entry["name"] for entry in json.loads(record.artifacts)]
    if ref.artifact is not None and pick(names, ref.artifact) is None:
        raise NotFound(f"job {record.id} has no artifact {ref.artifact}; it has: {', '.join(sorted(names))}")


def _check_endpoint(ref: Ref) -> None:
    """The entry must be there; its secret is the workers' to find."""
    try:
        find_endpoint(read_endpoints(gateway().settings.endpoints), ref.target.partition("/")[0])
    except EndpointsError as error:
        raise NotFound(str(error)) from None
