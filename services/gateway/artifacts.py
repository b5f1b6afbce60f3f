"""`/v1/jobs/{id}/artifacts`: what a job left, as a list and as bytes."""

from typing import Any

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import wrap_file

from services.gateway.jobs import READ, find_job
from services.gateway.operations import Answer, Operation, Routes, answer_json
from services.gateway.redteam import guard_download
from services.gateway.state import gateway
from services.gateway.views import ArtifactList, artifact_views
from shared.artifacts import CHUNK, PRESIGN_FROM_BYTES
from shared.jobs.artifact_names import pick
from shared.jobs.errors import NotFound
from shared.jobs.layout import job_file

routes = Routes()
ANY = ("*/*",)


@routes.add(
    Operation(
        "GET",
        "/v1/jobs/{job_id}/artifacts",
        "artifacts",
        "What a job left so far",
        {200: Answer(ArtifactList)},
        READ,
        (404,),
    )
)
def list_artifacts(job_id: str) -> Response:
    return answer_json({"items": artifact_views(find_job(job_id))})


@routes.add(
    Operation(
        "GET",
        "/v1/jobs/{job_id}/artifacts/{artifact}",
        "artifacts",
        "An artifact's bytes",
        {
            200: Answer(None, "The bytes", ANY),
            206: Answer(None, "A range of them", ANY),
            304: Answer(None, "Not modified", ()),
            307: Answer(None, "From the object store", ()),
        },
        READ,
        (404, 416),
        None,
        None,
        ("Range", "If-None-Match", "If-Range"),
    )
)
def get_artifact(job_id: str, artifact: str) -> Response:
    record = find_job(job_id)
    entries = {entry["name"]: entry for entry in artifact_views(record)}
    name = pick(list(entries), artifact)
    if name is None or record.prefix is None:
        raise NotFound(f"job {job_id} has no artifact {artifact}; it has: {', '.join(sorted(entries)) or 'none'}")
    guard_download(record, name)
    return send(job_file(job_id, record.prefix, name), entries[name])


def send(key: str, entry: dict[str, Any]) -> Response:
    """A blob with ETag and ranges, or the way to it. Raises NotFound when the store lost it."""
    store = gateway().artifacts
    if entry["bytes"] >= PRESIGN_FROM_BYTES and (url := store.presigned_url(key)):
        return Response(status=307, headers={"Location": url})
    try:
        handle = store.open(key)
    except FileNotFoundError:
        raise NotFound("the artifact store has it no more") from None
    answer = Response(wrap_file(request.environ, handle, CHUNK), mimetype=entry["media_type"], direct_passthrough=True)
    answer.content_length = entry["bytes"]
    answer.set_etag(entry["sha256"])
    answer.headers["Accept-Ranges"] = "bytes"
    answer.headers["Content-Disposition"] = f'attachment; filename="{entry["name"]}"'
    answer.headers["X-Content-Type-Options"] = "nosniff"
    try:
        answer.make_conditional(request.environ, accept_ranges=_takes_range(), complete_length=entry["bytes"])
    except RequestedRangeNotSatisfiable:
        handle.close()
        raise
    if request.method == "HEAD" or answer.status_code == 304:
        handle.close()  # nobody will read it
    return answer


def _takes_range() -> bool:
    """One range is served, as clients ask to resume a download; of several the whole is sent, as HTTP allows."""
    wanted = request.range
    return wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1
