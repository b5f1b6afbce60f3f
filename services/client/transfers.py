"""Files to and from the cluster: streamed, gone on with after a broken connection, checked against their SHA-256."""

import hashlib
import mimetypes
import os
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from services.client.connection import Connection, pauses, reason
from services.client.errors import Damaged, Unreachable
from services.client.models import Artifact, Uploaded

Advance = Callable[[int], None]
"""Called with the number of bytes that have just arrived."""


def download(connection: Connection, path: str, artifact: Artifact, target: Path, advance: Advance) -> Path:
    """Fetch one artifact into `target`, which exists afterwards whole or not at all.

    What arrives lies in `<target>.part`; a later call goes on from there. Raises Damaged when the digest differs.
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if part.exists() and part.stat().st_size > artifact.bytes:
        part.unlink()
    part.touch()
    advance(part.stat().st_size)
    for pause in pauses(connection.patience_s):
        try:
            _fetch_rest(connection, path, artifact, part, advance)
            break
        except httpx.TransportError as failure:
            if pause is None:
                raise Unreachable(connection.url, reason(failure)) from failure
            time.sleep(pause)
    _check(artifact, part)
    os.replace(part, target)
    return target


def _fetch_rest(connection: Connection, path: str, artifact: Artifact, part: Path, advance: Advance) -> None:
    have = part.stat().st_size
    if have == artifact.bytes:
        return
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with connection.stream(path, headers) as response:
        if have and response.status_code != httpx.codes.PARTIAL_CONTENT:
            advance(-have)
            have = 0
        with part.open("r+b") as out:
            out.seek(have)
            out.truncate()
            for chunk in response.iter_raw():
                out.write(chunk)
                advance(len(chunk))


def _check(artifact: Artifact, part: Path) -> None:
    with part.open("rb") as arrived:
        digest = hashlib.file_digest(arrived, "sha256").hexdigest()
    if digest != artifact.sha256:
        part.unlink()
        raise Damaged(f"{artifact.name} arrived with SHA-256 {digest}, announced was {artifact.sha256}; fetch it again")


def upload(connection: Connection, path: Path) -> Uploaded:
    """Store a file's content. The same content gives the same reference, so a broken upload is begun again."""
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    for pause in pauses(connection.patience_s):
        try:
            with path.open("rb") as content:
                headers = {"Content-Type": media_type, "Content-Length": str(path.stat().st_size)}
                answer = connection.json("POST", "/v1/files", repeatable=False, content=content, headers=headers)
            break
        except Unreachable:
            if pause is None:
                raise
            time.sleep(pause)
    return Uploaded.model_validate(answer)
