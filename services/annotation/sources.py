"""What a project is made of, read from references: documents, and recommendations that fit them."""

import json
from typing import Any

from services.gateway.state import gateway
from shared.data.builtin import shipped
from shared.jobs.artifact_names import pick
from shared.jobs.errors import BadRequest, FieldError, InvalidInput, NotFound
from shared.jobs.history import read_committed
from shared.jobs.layout import job_file, upload_key
from shared.jobs.references import Ref
from shared.jobs.states import JobState
from shared.relations.documents import Document, decoded, json_lines, parse_documents, repaired


def read_ref(ref: Ref, field: str) -> bytes:
    """The bytes behind a reference. Raises BadRequest naming the field."""
    try:
        if ref.scheme == "file":
            return gateway().artifacts.get_bytes(upload_key(ref.target))
        if ref.scheme == "builtin":
            path = shipped(ref.target, gateway().settings.data.resolve() / "cache" / "builtin")
            if path is None:
                raise FileNotFoundError(ref)
            return path.read_bytes()
        return _of_job(ref, field)
    except (FileNotFoundError, NotFound):
        raise refused(field, f"{ref} leads nowhere", "unknown_reference") from None


def _of_job(ref: Ref, field: str) -> bytes:
    job_id = ref.job_id or ""
    try:
        record = gateway().store.get(job_id)
    except NotFound:
        record = read_committed(job_id, gateway().artifacts)
    if record.state is not JobState.SUCCEEDED or record.prefix is None:
        raise refused(field, f"{ref}: job {job_id} is {record.state}; wait until it has succeeded", "unknown_reference")
    name = pick([entry["name"] for entry in json.loads(record.artifacts)], ref.artifact or "")
    if name is None:
        raise refused(field, f"{ref}: the job has no artifact of that name", "unknown_reference")
    return gateway().artifacts.get_bytes(job_file(job_id, record.prefix, name))


def read_project_documents(ref: Ref) -> list[Document]:
    """Raises BadRequest naming document and field."""
    try:
        documents = parse_documents(read_ref(ref, "documents"), "documents")
        return [repaired(document, f"documents: document {n}") for n, document in enumerate(documents)]
    except InvalidInput as error:
        raise refused("documents", error.message, "invalid_input") from None


def read_recommendations(ref: Ref | None, documents: list[Document]) -> list[list[dict[str, Any]]]:
    """Per document the recommended relations, joined on title and place: titles may repeat. Raises BadRequest."""
    if ref is None:
        return [[] for _ in documents]
    try:
        lines = [
            value
            for _, value in json_lines(decoded(read_ref(ref, "recommendations"), "recommendations"), "recommendations")
        ]
    except InvalidInput as error:
        raise refused("recommendations", error.message, "invalid_input") from None
    if len(lines) != len(documents):
        raise refused("recommendations", f"{len(lines)} lines for {len(documents)} documents", "invalid_input")
    return [_checked(line, document, n) for n, (line, document) in enumerate(zip(lines, documents, strict=True))]


def _checked(line: Any, document: Document, number: int) -> list[dict[str, Any]]:
    if (
        not isinstance(line, dict)
        or line.get("title") != document.title
        or not isinstance(line.get("recommendations"), list)
    ):
        raise refused(
            "recommendations", f"line {number + 1} is not of document {document.title[:80]!r}", "invalid_input"
        )
    entities, found = len(document.entities), {}
    for n, each in enumerate(line["recommendations"]):
        whole = isinstance(each, dict) and all(isinstance(each.get(k), int) and 0 <= each[k] < entities for k in "ht")
        if not whole or each["h"] == each["t"] or not isinstance(each.get("r"), str):
            raise refused(
                "recommendations", f"line {number + 1}: recommendations[{n}]: no pair of the document", "invalid_input"
            )
        found[each["h"], each["t"], each["r"]] = {k: each.get(k) for k in ("h", "t", "r", "score", "p", "evidence")}
    return list(found.values())


def refused(field: str, message: str, kind: str) -> BadRequest:
    return BadRequest(message, [FieldError(("body", field), message, kind)])
