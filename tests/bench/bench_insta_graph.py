"""Approximate search by graphs beside the exact scan, of a million instructions.

    ./tenfold bench insta_graph [--quick]

Vectors are real instructions' with noise (cosine about .9 to the original), so that they lie around kinds of task as
instructions do, and random ones (one graph's), the worst case. In CPU time of one thread; about ten minutes.
`--quick`: 20,000 vectors.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.builtin import shipped
from shared.data.instruction_tasks import read_tasks
from shared.models.sentence_encoder import SentenceEncoder
from tests.bench.bench_insta import D, K, library_path, one_thread
from workers.insta.graph import SHARD_ROWS, Graph, built, shards
from workers.insta.search import Searcher

NOISE = 0.48  # length of what is added to a unit vector
QUERIES = 100
ROWS = 65_536  # made at once
Halves = NDArray[np.float16]


def rows(quick: bool = False) -> list[dict[str, Any]]:
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        around = _instructions(Path(folder), quick)
        size = 20_000 if quick else 1_000_000
        return [
            *_rows(Path(folder), "real instructions with noise", size, around),
            *_rows(Path(folder), "random", min(size, SHARD_ROWS), None),
        ]


def _instructions(folder: Path, quick: bool) -> NDArray[np.float32]:
    """(instructions, d)."""
    path, minilm = library_path(folder), shipped("minilm", folder)
    assert minilm is not None
    texts = list(dict.fromkeys(t.text for task in read_tasks(path, path.name) for t in task.templates))
    return SentenceEncoder.load(minilm).encode(texts[:100] if quick else texts)


def _rows(folder: Path, kind: str, size: int, around: NDArray[np.float32] | None) -> list[dict[str, Any]]:
    vectors = np.concatenate(
        [_drawn(number, min(ROWS, size - start), around) for number, start in enumerate(range(0, size, ROWS))]
    )
    begun = time.process_time()
    packed = [built(vectors[start:end], lambda done: None) for start, end in shards(size)]
    building = time.process_time() - begun
    (folder / "graph.bin").write_bytes(b"".join(packed))
    graph, exact = Graph(folder / "graph.bin", [len(each) for each in packed], vectors), Searcher(vectors)
    walked: list[float] = []
    scanned: list[float] = []
    found = []
    for query in np.asarray(_drawn(9_999, QUERIES, around), np.float32):
        (near, seconds), (all_near, exact_seconds) = (
            _timed(lambda q=query: graph.nearest(q, K)), _timed(lambda q=query: exact.nearest(q, K).rows)
        )  # fmt: skip
        walked.append(seconds)
        scanned.append(exact_seconds)
        found.append(len(set(near.tolist()) & set(all_near.tolist())) / K)
    what = f"{size:,} vectors, {kind}: graph search, recall@10 {statistics.mean(found):.3f}"
    return [
        {"what": what, "ours": round(statistics.median(walked), 2), "peer": round(statistics.median(scanned), 2),
         "peer_name": "our exact scan", "unit": "CPU-ms",
         "ratio": round(statistics.median(scanned) / statistics.median(walked), 2), "goal": None,
         "spread": f"{min(walked):.2f}–{max(walked):.2f}, scan {min(scanned):.2f}–{max(scanned):.2f}"},
        {"what": f"{size:,} vectors, {kind}: building the graphs", "ours": round(building, 1), "peer": None,
         "peer_name": "", "unit": "CPU-s", "ratio": None, "goal": None,
         "spread": f"once; {sum(map(len, packed)) / size:.0f} bytes per vector"},
    ]  # fmt: skip


def _drawn(seed: int, rows: int, around: NDArray[np.float32] | None) -> Halves:
    """(rows, d) unit vectors."""
    rng = np.random.default_rng([7, seed])
    x = rng.standard_normal((rows, D), dtype=np.float32)
    if around is not None:
        x = around[rng.integers(0, len(around), rows)] + NOISE * x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float16)


def _timed(search: Any) -> tuple[Any, float]:
    begun = time.process_time()
    found = search()
    return found, (time.process_time() - begun) * 1000
