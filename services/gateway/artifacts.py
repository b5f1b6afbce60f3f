"""`/v1/jobs/{id}/artifacts`: what a job left, as a list and as bytes."""

from typing import Any

from flask import Response, redirect, request

from services.gateway.jobs import READ, find_job
from services.gateway.operations import Answer, Operation, Routes, answer_json
from services.gateway.problems import Problem
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
        ("Range", "If-None-Match"),
    )
)
def get_artifact(job_id: str, artifact: str) -> Response:
    record = find_job(job_id)
    entries = {entry["name"]: entry for entry in artifact_views(record)}
    name = pick(list(entries), artifact)
    if name is None or record.prefix is None:
        raise NotFound(f"job {job_id} has no artifact {artifact}; it has: {', '.join(sorted(entries)) or 'none'}")
    return send(job_file(job_id, record.prefix, name), entries[name])


def send(key: str, entry: dict[str, Any]) -> Response:
    """A blob with ETag and ranges, or the way to it. Raises NotFound when the store lost it."""
    store = gateway().artifacts
    if entry["bytes"] >= PRESIGN_FROM_BYTES and (url := store.presigned_url(key)):
        return redirect(url, 307)  # type: ignore[return-value]
    try:
        handle = store.open(key)
    except FileNotFoundError:
        raise NotFound("the artifact store has it no more") from None
    answer = Response(_chunks(handle), mimetype=entry["media_type"], direct_passthrough=True)
    answer.content_length = entry["bytes"]
    answer.set_etag(entry["sha256"])
    answer.headers["Content-Disposition"] = f'attachment; filename="{entry["name"]}"'
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return _ranged(answer, handle, entry)


def _ranged(answer: Response, handle: Any, entry: dict[str, Any]) -> Response:
    """Heed If-None-Match and Range; one range, as clients ask to resume a download."""
    size = entry["bytes"]
    answer.headers["Accept-Ranges"] = "bytes"
    if request.if_none_match.contains_weak(entry["sha256"]):
        handle.close()
        return Response(status=304, headers={"ETag": answer.headers["ETag"]})
    wanted = request.range
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1 or not _holds_if_range(entry["sha256"]):
        return answer
    span = wanted.range_for_length(size)
    if span is None:
        handle.close()
        raise Problem(
            "range_not_satisfiable", f"the artifact has {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    start, stop = span
    handle.seek(start)
    answer.response = _chunks(handle, stop - start)
    answer.status_code = 206
    answer.content_length = stop - start
    answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return answer


def _holds_if_range(etag: str) -> bool:
    return request.if_range.etag in (None, etag)


def _chunks(handle: Any, count: int | None = None) -> Any:
    left = count
    with handle:
        while left is None or left > 0:
            chunk = handle.read(CHUNK if left is None else min(CHUNK, left))
            if not chunk:
                return
            left = None if left is None else left - len(chunk)
            yield chunk
