"""Exact nearest instructions over float16 vectors with float32 sums: FAISS SQfp16 where installed, NumPy else.

What the fast scan finds is scored again in float64 row by row, so that order and scores do not depend on which library
scanned, and equal vectors tie. `Searcher.nearest` is the entry point.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.insta.faiss_codes import has_faiss, load_faiss, scalar_index
from workers.insta.scoring import DECIMALS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RESIDENT_ROWS = 65_536
"""Up to here a float64 copy is kept in memory (200 MB at d = 384) once all similarities are asked for."""
SCANNED_ROWS = 262_144
"""Up to here scans with NumPy keep a float32 copy (400 MB); beyond it they convert block by block."""
BLOCK_ROWS = 16_384
FEW_QUERIES = 6
CACHED_ROWS = 256  # 400 KB at d = 384
NEAR_TIE = 1e-5
"""More than float32 sums of unit vectors can be off by."""
SPARE = 6  # rows scanned beyond k; where more than that tie, the scan is repeated


class Nearest(NamedTuple):
    """Rows of the library by falling cosine."""

    rows: Ints
    cosines: Floats


class Searcher:
    """Searches one (N, d) float16 matrix of unit vectors."""

    def __init__(self, vectors: NDArray[np.float16], use_faiss: bool | None = None) -> None:
        self.vectors = np.asarray(vectors)  # a mapped array without its slower class
        self._faiss = _FaissScan(vectors) if (has_faiss() if use_faiss is None else use_faiss) else None
        self._kept: dict[type, NDArray[Any]] = {}

    def nearest(
        self, query: NDArray[Any], k: int, allowed: NDArray[np.bool_] | None = None, tie_rank: Ints | None = None
    ) -> Nearest:
        """The k nearest of the allowed (N,) rows to a unit vector (d,); equal ones by `tie_rank` (N,), else by row."""
        available = len(self.vectors) if allowed is None else int(allowed.sum())
        k, scanned = min(k, available), min(available, k + SPARE)
        while True:
            rows, rough = self._scan(query, scanned, allowed)
            rows = rows[rough >= rough[k - 1] - 2 * NEAR_TIE]  # the others can't be among the first k
            found = self._exact(query, rows, rows if tie_rank is None else tie_rank[rows])
            # what was not scanned is at most rough[-1], give or take rounding
            if scanned == available or rough[-1] < found.cosines[k - 1] - NEAR_TIE:
                return Nearest(found.rows[:k], found.cosines[:k])
            scanned = min(available, 4 * scanned)

    def similarities(self, queries: NDArray[Any]) -> Floats:
        """(m, N) cosines of unit vectors (m, d) to all rows, summed in float64, to DECIMALS."""
        blocks = self._blocks(np.float64, RESIDENT_ROWS)
        q = np.asarray(queries, np.float64)
        cosines: Floats = np.round(np.concatenate([q @ block.T for block in blocks], axis=1), DECIMALS)
        return cosines

    def rough(self, queries: NDArray[Any]) -> NDArray[np.float32]:
        """(m, N) cosines summed in float32: off by less than NEAR_TIE, at a quarter of the cost of `similarities`."""
        q, start = np.asarray(queries, np.float32), 0
        cosines = np.empty((len(q), len(self.vectors)), np.float32)
        for block in self._blocks(np.float32, SCANNED_ROWS):
            _multiply(block, q, cosines[:, start : start + len(block)])
            start += len(block)
        return cosines

    def exact(self, query: NDArray[Any], rows: Ints) -> Floats:
        """Cosines of one query to some rows in float64, each summed the same way; to DECIMALS."""
        chosen = np.asarray(self.vectors.take(rows, axis=0), np.float64)
        cosines: Floats = np.round((chosen * np.asarray(query, np.float64)).sum(axis=1), DECIMALS)
        return cosines

    def _exact(self, query: NDArray[Any], rows: Ints, ranks: Ints) -> Nearest:
        cosines = self.exact(query, rows)
        order = np.lexsort((ranks, -cosines))
        return Nearest(rows[order], cosines[order])

    def _scan(self, query: NDArray[Any], k: int, allowed: NDArray[np.bool_] | None) -> tuple[Ints, Floats]:
        if self._faiss is not None:
            return self._faiss.scan(np.asarray(query, np.float32), k, allowed)
        q = np.asarray(query, np.float32)
        scores = np.concatenate([block @ q for block in self._blocks(np.float32, SCANNED_ROWS)]).astype(np.float64)
        if allowed is not None:
            scores = np.where(allowed, scores, -np.inf)
        rows = np.argpartition(-scores, k - 1)[:k]
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        return rows, scores[rows]

    def _blocks(self, dtype: type, resident_rows: int) -> Iterator[NDArray[Any]]:
        """The rows in wider numbers: one kept copy, or block after block."""
        if len(self.vectors) <= resident_rows:
            if dtype not in self._kept:
                self._kept[dtype] = np.asarray(self.vectors, dtype)
            yield self._kept[dtype]
            return
        for start in range(0, len(self.vectors), BLOCK_ROWS):
            yield np.asarray(self.vectors[start : start + BLOCK_ROWS], dtype)


def _multiply(rows: NDArray[np.float32], queries: NDArray[np.float32], into: NDArray[np.float32]) -> None:
    """queries · rowsᵀ. A few queries are faster one by one over rows that stay in the processor's cache."""
    if len(queries) > FEW_QUERIES:
        into[:] = (rows @ queries.T).T
        return
    for start in range(0, len(rows), CACHED_ROWS):
        part = rows[start : start + CACHED_ROWS]
        for query, cosines in zip(queries, into, strict=True):
            np.dot(part, query, out=cosines[start : start + len(part)])


class _FaissScan:
    """A scan of the mapped vectors themselves."""

    def __init__(self, vectors: NDArray[np.float16]) -> None:
        self._faiss, self._index = load_faiss(), scalar_index(vectors)
        self._vectors = vectors  # the codes are its memory

    def scan(self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> tuple[Ints, Floats]:
        params, faiss = None, self._faiss
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            params = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
        scores, rows = self._index.search(query[None], k, params=params)
        return rows[0], np.asarray(scores[0], np.float64)
