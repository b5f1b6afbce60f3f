"""An approximate search beside the exact one: HNSW graphs over an index of a million instructions or more.

One graph per 131,072 rows, so that building checkpoints, resumes to the same bits, and never holds more than a part.
A graph has links only; its vectors are the index's own. `built` and `Graph.nearest` are the entry points.

Malkov and Yashunin, 2018 (arXiv 1603.09320); FAISS builds and walks the graphs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.jobs.errors import InvalidInput
from workers.insta.faiss_codes import has_faiss, load_faiss, scalar_index
from workers.insta.scoring import Ints

LEAST_ROWS = 1_000_000
"""Below, the exact scan takes less than thirty milliseconds."""
SHARD_ROWS = 131_072
LINKS = 16  # M
CONSTRUCTION = 64  # candidates looked at while a row is linked
ADDED_ROWS = 1_024  # at once: a second or so between chances to stop
NEIGHBOURS = 128  # candidates looked at in each graph by a search, at least


def check_rows(rows: int) -> None:
    """Raises InvalidInput for a library that needs no graph, or where FAISS is missing."""
    if rows < LEAST_ROWS:
        raise InvalidInput(
            f"graph is for {LEAST_ROWS:,} instructions or more; of the {rows:,} of this library the exact search finds "
            "the nearest in milliseconds: leave graph out"
        )
    if not has_faiss():
        raise InvalidInput("graph needs the package faiss-cpu, which is not installed on this worker; leave graph out")


def shards(rows: int) -> list[tuple[int, int]]:
    """First row and the one behind the last, of every shard."""
    return [(start, min(start + SHARD_ROWS, rows)) for start in range(0, rows, SHARD_ROWS)]


def built(vectors: NDArray[np.float16], tick: Callable[[int], None]) -> bytes:
    """The links of one shard's rows (n, d). `tick` hears how many rows are linked, and may stop it."""
    faiss = load_faiss()
    faiss.omp_set_num_threads(1)  # several link in an order of their own
    graph = faiss.IndexHNSWSQ(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = CONSTRUCTION
    for start in range(0, len(vectors), ADDED_ROWS):
        rows = np.asarray(vectors[start : start + ADDED_ROWS], np.float32)
        graph.add(rows)
        tick(start + len(rows))
    writer = faiss.VectorIOWriter()
    faiss.write_index(graph, writer, faiss.IO_FLAG_SKIP_STORAGE)
    return bytes(faiss.vector_to_array(writer.data))


class Graph:
    """The graphs of one index, read once per process."""

    def __init__(self, path: Path, sizes: list[int], vectors: NDArray[np.float16]) -> None:
        """`sizes`: bytes of each shard in the file. Raises InvalidInput where FAISS is missing."""
        if not has_faiss():
            raise InvalidInput("search graph needs the package faiss-cpu, which this worker lacks; use search exact")
        self._vectors, self._kept, self._shards = vectors, list[Any](), list[tuple[int, Any]]()
        packed, at = np.memmap(path, np.uint8, "r"), 0
        for size, (start, end) in zip(sizes, shards(len(vectors)), strict=True):
            storage = scalar_index(vectors[start:end])
            self._kept.append(storage)
            self._shards.append((start, _opened(packed[at : at + size], storage)))
            at += size

    def nearest(self, query: NDArray[Any], k: int) -> Ints:
        """Rows near a unit vector (d,), about the k nearest of every shard, in no order."""
        params = load_faiss().SearchParametersHNSW()
        params.efSearch = max(NEIGHBOURS, 2 * k)
        q, found = np.asarray(query, np.float32)[None], []
        for start, graph in self._shards:
            rows = graph.search(q, min(k, graph.ntotal), params=params)[1][0]
            found.append(rows[rows >= 0] + start)
        return np.asarray(np.concatenate(found), np.int64)


def _opened(packed: NDArray[np.uint8], storage: Any) -> Any:
    """A shard's links over its vectors, which must outlive it."""
    faiss = load_faiss()
    reader = faiss.VectorIOReader()
    faiss.copy_array_to_vector(np.ascontiguousarray(packed), reader.data)
    graph = faiss.read_index(reader)
    graph.storage, graph.own_fields = storage, False
    return graph
