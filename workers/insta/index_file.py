"""`index.tar`: what an index consists of, how it is written and how it is opened.

    manifest.json   format version, encoder, refinement, sizes, digests
    vectors.npy     (N, d) float16, one row per instruction; memory-mapped
    offsets.npy     (T + 1,) int64, rows of task t are offsets[t] … offsets[t + 1] − 1
    hashes.npy      (N, 32) uint8, SHA-256 of every refined text
    tasks.jsonl     one task a line
    lines.npy       (T + 1,) int64, where line t begins in tasks.jsonl
    order.npy       (T,) int32, tasks sorted by id
    columns.npy     (T, 5) int32, codes of source, data set, category, split and languages; −1: not said
    columns.json    what the codes mean
    terms.json      {documents, average_length, df}: what BM25 needs of the library
    moments.npy     (d + 1, d) float64, mean row and mean of x xᵀ
    map.npy         (T, 2) float32, tasks on the first two principal axes; axes.npy (2, d)
    head.npy        (d, d) float32, an alignment; with it the index answers by x W / ‖x W‖
    samples.npy     (T, d) float16, examples; zeros where a task has none
    graph.bin       links of HNSW graphs over the vectors, for approximate search; no vectors
    encoder.tar     the encoder itself, where it was trained for this index or came as a file

A tar is unpacked once per digest into the worker's cache; opening it again costs nothing that grows with the library.
"""

import io
import json
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from shared.jobs.errors import InvalidInput

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
GRAPH = "graph.bin"
NEEDED = (
    MANIFEST, "vectors.npy", "offsets.npy", "hashes.npy", "tasks.jsonl", "lines.npy", "order.npy", "columns.npy",
    "columns.json", "terms.json", "moments.npy", "map.npy", "axes.npy",
)  # fmt: skip
OPTIONAL = ("head.npy", "samples.npy", GRAPH, "encoder.tar")
MEMBERS = (*NEEDED, *OPTIONAL)
REMEDY = "give the index.tar of an insta.index or insta.align job"

Member = NDArray[Any] | bytes | Path | dict[str, Any]
"""What a member is written from: an array, bytes, a file, or what becomes JSON."""


def write_tar(out: BinaryIO, members: dict[str, Member]) -> None:
    """Equal members give equal bytes: fixed order, no times, no owners, no compression."""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in MEMBERS:
            if name in members:
                _add(tar, name, members[name])


def _add(tar: tarfile.TarFile, name: str, member: Member) -> None:
    if isinstance(member, Path):
        with member.open("rb") as handle:
            _add_stream(tar, name, handle, member.stat().st_size)
        return
    if isinstance(member, np.ndarray):
        member = np.ascontiguousarray(member)  # the header tells the order of the bytes behind it
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(member))
        stream = _Joined(header.getvalue(), member)
        _add_stream(tar, name, stream, stream.size)
        return
    data = member if isinstance(member, bytes) else json.dumps(member, ensure_ascii=False, sort_keys=True).encode()
    _add_stream(tar, name, io.BytesIO(data), len(data))


def _add_stream(tar: tarfile.TarFile, name: str, stream: Any, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, stream)


class _Joined:
    """The header of an array in C order and then its bytes: a mapped array is never in memory as a whole."""

    def __init__(self, header: bytes, array: NDArray[Any]) -> None:
        self._parts = [header, array.reshape(-1).view(np.uint8).data if array.size else b""]
        self.size = sum(len(part) for part in self._parts)

    def read(self, size: int) -> bytes:
        taken = b""
        while self._parts and len(taken) < size:
            part = self._parts[0]
            room = size - len(taken)
            taken += bytes(part[:room])
            self._parts[0] = part[room:]
            if not len(self._parts[0]):
                self._parts.pop(0)
        return taken


def unpack(path: Path, digest: str, cache: Path, name: str, finish: Callable[[Path], None]) -> Path:
    """The folder with an index's members; `finish` may add what is derived from them. Raises InvalidInput."""
    folder = cache / "insta" / digest
    if not folder.exists():
        fresh = folder.with_name(f".{digest[:16]}.{secrets.token_hex(4)}")
        fresh.mkdir(parents=True)
        try:
            _extract(path, fresh, name)
            check_manifest(fresh, name)
            finish(fresh)
            os.rename(fresh, folder)
        except OSError:
            if not folder.exists():  # else another worker was first
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _extract(path: Path, folder: Path, name: str) -> None:
    try:
        with tarfile.open(path, "r:") as tar:
            for member in _known(tar):
                with (folder / member.name).open("wb") as out:
                    handle = tar.extractfile(member)
                    if handle is not None:
                        shutil.copyfileobj(handle, out, 1 << 20)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInput(f"{name} is no index: {error}; {REMEDY}") from None
    missing = [needed for needed in NEEDED if not (folder / needed).exists()]
    if MANIFEST in missing:
        raise InvalidInput(f"{name} is no index: it has no {MANIFEST}; {REMEDY}")
    if missing and _manifest(folder, name).get("format_version") == FORMAT_VERSION:
        raise InvalidInput(f"{name} lacks {', '.join(missing)}; {REMEDY}")


def _known(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    return (member for member in tar if member.isfile() and member.name in MEMBERS)


def check_manifest(folder: Path, name: str) -> dict[str, Any]:
    """The manifest of an index this version reads. Raises InvalidInput."""
    manifest = _manifest(folder, name)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise InvalidInput(
            f"{name} is an index of format version {version}; this Tenfold reads version {FORMAT_VERSION}: index the "
            "library again"
        )
    return manifest


def _manifest(folder: Path, name: str) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{name}: {MANIFEST} is damaged: {error}; {REMEDY}") from None
    return manifest if isinstance(manifest, dict) else {}
