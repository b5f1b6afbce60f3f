"""`/v1/files`: uploads, by content."""

import hashlib
import re
import tempfile
from pathlib import Path
from typing import IO

from flask import Response, request

from services.gateway.artifacts import ANY, send
from services.gateway.bodies import BROKEN_OFF, broken_off, read, refuse_oversize
from services.gateway.jobs import READ, WRITE
from services.gateway.operations import Answer, Operation, Routes, answer_json
from services.gateway.problems import Problem
from services.gateway.state import gateway
from services.gateway.views import FileView
from shared.artifacts import CHUNK
from shared.jobs.errors import BadRequest, FieldError
from shared.jobs.files import UploadedFile
from shared.jobs.layout import upload_key

routes = Routes()
ENVELOPE_BYTES = 1 << 16  # by so much a multipart body may be larger than its file
MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}\Z")


@routes.add(
    Operation(
        "POST",
        "/v1/files",
        "files",
        "Upload a file (multipart field `file`, or the raw body)",
        {201: Answer(FileView, "Kept; the same content has the same ref")},
        WRITE,
        (400, 413, 422, 503),
        None,
        "upload",
    )
)
def upload() -> Response:
    limit = gateway().settings.max_upload
    request.max_content_length = limit + ENVELOPE_BYTES
    refuse_oversize(limit + ENVELOPE_BYTES)
    gateway().refuse_when_full()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        source, media_type = _source()
        file = _receive(source, path, media_type, limit)
        gateway().files.add(path, file)
    return answer_json({"ref": file.ref, "bytes": file.bytes, "media_type": file.media_type}, 201)


@routes.add(
    Operation(
        "GET",
        "/v1/files/{sha256}",
        "files",
        "An uploaded file's bytes",
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
def get_file(sha256: str) -> Response:
    file = gateway().files.find(sha256)
    entry = {"name": sha256, "bytes": file.bytes, "sha256": sha256, "media_type": file.media_type}
    return send(upload_key(sha256), entry)


def _source() -> tuple[IO[bytes], str]:
    """The stream to read and its media type."""
    if request.mimetype != "multipart/form-data":
        if (
            not request.content_type
            and not request.content_length
            and not request.environ.get("HTTP_TRANSFER_ENCODING")
        ):
            raise BadRequest("the body is missing", [FieldError(("body",), "send the file's bytes", "missing")])
        return request.stream, _media_type(request.mimetype)
    try:
        parts, fields = request.files.getlist("file"), [*request.files, *request.form]
    except BROKEN_OFF:
        raise broken_off() from None
    if len(parts) != 1 or len(fields) != 1:
        raise BadRequest(
            "a multipart upload has exactly one field `file`",
            [FieldError(("body", "file"), "exactly one file", "multipart")],
        )
    return parts[0].stream, _media_type(parts[0].mimetype)


def _media_type(given: str) -> str:
    """What the caller calls the file. A form's type is what curl sends unasked: it says nothing of the content."""
    says_something = MEDIA_TYPE.match(given) and given != "application/x-www-form-urlencoded"
    return given if says_something else "application/octet-stream"


def _receive(source: IO[bytes], path: Path, media_type: str, limit: int) -> UploadedFile:
    sha, size = hashlib.sha256(), 0
    with path.open("wb") as out:
        while chunk := read(source, CHUNK):
            size += len(chunk)
            if size > limit:
                raise Problem("too_large", f"the file is larger than {limit} bytes")
            sha.update(chunk)
            out.write(chunk)
    return UploadedFile(sha.hexdigest(), size, media_type)
