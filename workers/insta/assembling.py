"""From vectors to the members of `index.tar`: everything that a query would otherwise have to compute."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.insta.bm25 import document_frequencies
from workers.insta.index import COLUMNS
from workers.insta.index_file import FORMAT_VERSION, Member
from workers.insta.library import Library, StoredTask, text_hashes
from workers.insta.moments import moments_of, principal_axes


def members_of(library: Library, vectors: NDArray[np.float16], about: dict[str, Any]) -> dict[str, Member]:
    """All members but the optional ones; `about` is what the manifest says beside sizes and digests."""
    lines = [task.line().encode() + b"\n" for task in library.tasks]
    hashes, offsets = text_hashes(library.texts), library.offsets
    codes, values = columns_of(library.tasks)
    moments = moments_of(vectors)
    axes = principal_axes(moments)
    members: dict[str, Member] = {
        "vectors.npy": vectors,
        "offsets.npy": offsets,
        "hashes.npy": hashes,
        "tasks.jsonl": b"".join(lines),
        "lines.npy": np.cumsum([0, *map(len, lines)], dtype=np.int64),
        "order.npy": np.array(sorted(range(len(lines)), key=lambda t: library.tasks[t].id), np.int32),
        "columns.npy": codes,
        "columns.json": values,
        "terms.json": document_frequencies(library.texts),
        "moments.npy": moments,
        "map.npy": positions(vectors, offsets, moments, axes),
        "axes.npy": axes,
    }
    members["manifest.json"] = manifest_of(library, vectors, {**about, "hashes": _sha256(hashes)})
    return members


def manifest_of(library: Library, vectors: NDArray[np.float16], about: dict[str, Any]) -> dict[str, Any]:
    """Sizes, digests and the version, which names the index by its content."""
    rows, dimensions = vectors.shape
    manifest = {
        "format_version": FORMAT_VERSION, "tasks": len(library.tasks), "instructions": rows, "dimensions": dimensions,
        "dtype": "float16", "library": library.digest(), "vectors": _sha256(vectors), **about,
    }  # fmt: skip
    return with_version(manifest)


def with_version(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with its version: the first 16 hex digits of the digest of all else."""
    rest = {key: value for key, value in manifest.items() if key != "version"}
    text = repr(sorted((key, repr(value)) for key, value in rest.items()))
    return {**rest, "version": hashlib.sha256(text.encode()).hexdigest()[:16]}


def columns_of(tasks: Sequence[StoredTask]) -> tuple[NDArray[np.int32], dict[str, list[str]]]:
    """((T, 5) codes, what they mean); −1: the task doesn't say."""
    codes, values = np.full((len(tasks), len(COLUMNS)), -1, np.int32), {}
    for place, column in enumerate(COLUMNS):
        said = [_value(task, column) for task in tasks]
        values[column] = sorted({value for value in said if value is not None})
        code_of = {value: code for code, value in enumerate(values[column])}
        codes[:, place] = [-1 if value is None else code_of[value] for value in said]
    return codes, values


def _value(task: StoredTask, column: str) -> str | None:
    if column == "languages":
        return None if task.languages is None else "\n".join(sorted(set(task.languages)))
    value: str | None = getattr(task, column)
    return value


def positions(
    vectors: NDArray[np.float16], offsets: NDArray[np.int64], moments: NDArray[np.float64], axes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(T, 2): the mean of each task's rows on the principal axes."""
    placed = np.empty((len(vectors), 2))
    for start in range(0, len(vectors), 16_384):
        block = np.asarray(vectors[start : start + 16_384], np.float64)
        placed[start : start + 16_384] = (block - moments[0]) @ axes.T
    return np.asarray(np.add.reduceat(placed, offsets[:-1], axis=0) / np.diff(offsets)[:, None], np.float32)


def _sha256(array: NDArray[Any]) -> str:
    sha = hashlib.sha256()
    for start in range(0, len(array), 65_536):
        sha.update(np.ascontiguousarray(array[start : start + 65_536]).tobytes())
    return sha.hexdigest()
