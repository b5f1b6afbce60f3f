"""Indexing and querying, beside sentence-transformers and FAISS in the same run.

    python -m tests.bench.bench_insta [--quick]

Encoding and searching are measured in CPU time of one thread, which other people's load hardly changes; opening an
index in wall time; the way from submit to result over HTTP is `insta_http`. Each round runs every contender once, one
after another, so that a busy machine slows all of them; a figure is the median over rounds, its spread the smallest and
largest. Texts are the definitions of `$TENFOLD_REAL_DATA/insta/niv2_tasks.jsonl`, or the
instructions of our own library where that is absent.
"""

import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.builtin import shipped
from shared.data.instruction_tasks import read_tasks
from shared.jobs.catalog.insta import IndexParams
from shared.jobs.local import LocalContext
from shared.models.sentence_encoder import SentenceEncoder
from tests.synthetic_insta import synthetic_index
from workers.insta.index import Index
from workers.insta.jobs import index
from workers.insta.retrieval import Retriever, Rules, Target, Vectors
from workers.insta.search import Searcher

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import faiss
    import torch

LIBRARY, BASE = "file:" + "a" * 64, "file:" + "b" * 64
FAST_FLAGS = ("avx512_bf16", "amx_bf16")
D = 384
K = 10
SEVERAL = 6  # instructions per task, about what P3 has
ROUNDS = 5
OPEN_GOAL_MS = 100.0
Clock = Callable[[], float]


def real_folder() -> Path | None:
    """Where the real libraries lie, if they do."""
    root = Path(os.environ.get("TENFOLD_REAL_DATA") or Path(__file__).parents[3] / "shared" / "data")
    return root / "insta" if (root / "insta").is_dir() else None


def library_path(folder: Path) -> Path:
    real = real_folder()
    path = real / "niv2_tasks.jsonl" if real else shipped("tasks", folder)
    assert path is not None
    return path


def machine() -> str:
    """Processor flags that matter and the load."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    known = [flag for flag in (*FAST_FLAGS, "avx512f") if flag in flags]
    return f"{os.cpu_count()} cores, {' '.join(known) or 'no avx512'}, load {os.getloadavg()[0]:.1f}"


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        sizes = (10_000,) if quick else (10_000, 100_000, 1_000_000)
        return [
            *_index_rows(Path(folder), quick),
            *(row for n in sizes for row in _query_rows(Path(folder), n, quick)),
            *(_several_row(Path(folder), n, quick) for n in sizes if n <= 100_000),
            *_open_rows(Path(folder), sizes[-1]),
        ]


# Indexing -------------------------------------------------------------------------------------------------------------


def _index_rows(folder: Path, quick: bool) -> list[dict[str, Any]]:
    from sentence_transformers import SentenceTransformer

    path, minilm = library_path(folder), shipped("minilm", folder)
    assert minilm is not None
    texts = [template.text for task in read_tasks(path, path.name) for template in task.templates]
    texts = texts[:96] if quick else texts
    encoder = SentenceEncoder.load(minilm, cache=folder / "openvino")
    peer = SentenceTransformer(str(minilm), device="cpu")
    different = list(dict.fromkeys(texts))
    cosine = float((encoder.encode(different[:96]) * peer.encode(different[:96])).sum(axis=1).min())
    assert cosine >= 0.999, f"minimum cosine to sentence-transformers is {cosine}"
    contenders = {
        "ours": _rate(lambda: encoder.encode(different), len(different)),
        "peer": _rate(lambda: peer.encode(different, batch_size=32, show_progress_bar=False), len(different)),
    }
    found = _interleaved(contenders, 3 if quick else 5)
    fast = any(flag in machine() for flag in FAST_FLAGS)
    name = "sentence-transformers encode"
    title = f"encode {len(different)} different instructions ({encoder.backend}, min cos {cosine:.5f}; {machine()})"
    table = [_row(title, found["ours"], found["peer"], name, "instructions/CPU-s", 2.0 if fast else 1.25)]
    return table if quick else [*table, *_job_rows(folder, path, found["peer"], name)]


def _job_rows(folder: Path, path: Path, peer: list[float], name: str) -> list[dict[str, Any]]:
    """The whole job, duplicates encoded once; and again with nothing changed."""
    first, again = [], []
    for number in range(2):
        out = folder / f"job{number}"
        first.append(_job_rate(out, {LIBRARY: path}, folder))
        again.append(_job_rate(folder / f"again{number}", {LIBRARY: path, BASE: out / "index.tar"}, folder, BASE))
    unit = "instructions/CPU-s"
    return [
        _row("whole index job, duplicates encoded once", first, peer, name, unit, None),
        _row("re-index, nothing changed", again, peer, name, unit, None),
    ]


def _job_rate(out: Path, inputs: dict[str, Path], cache: Path, base: str | None = None) -> float:
    ctx = LocalContext(out, inputs=inputs, cache=cache / "cache")
    start = time.process_time()
    result = index(IndexParams(library=LIBRARY, base_index=base), ctx)
    ctx.close()
    return result.instructions / (time.process_time() - start)


# Querying -------------------------------------------------------------------------------------------------------------


def _query_rows(folder: Path, n: int, quick: bool) -> list[dict[str, Any]]:
    """k = 10 of n random unit vectors, one query at a time."""
    from sentence_transformers import util

    wide = _unit_rows(n)
    mapped = _mapped(folder / f"{n}.npy", wide)
    flat = faiss.IndexFlatIP(D)
    flat.add(wide)
    corpus, searcher = torch.from_numpy(wide), Searcher(mapped)
    queries = _unit_rows(20 if quick or n > 100_000 else 100, seed=1)
    contenders: dict[str, Callable[[Any], Any]] = {
        "ours": lambda query: searcher.nearest(query, K).rows,
        "FAISS IndexFlatIP": lambda query: flat.search(query[None], K)[1][0],
        "semantic_search dot_score": lambda query: util.semantic_search(
            torch.from_numpy(query[None]), corpus, top_k=K, score_function=util.dot_score
        ),
        "semantic_search": lambda query: util.semantic_search(torch.from_numpy(query[None]), corpus, top_k=K),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}  # CPU, one thread
    for chunk in np.array_split(queries, ROUNDS):
        for name, search in contenders.items():
            search(chunk[0])  # once unmeasured: what another contender left in the caches is nobody's cost
            few = chunk[:1] if name == "semantic_search" and n > 100_000 else chunk
            times[name] += [_milliseconds(search, query, time.process_time) for query in few]
    recall = [
        len(set(contenders["ours"](q).tolist()) & set(flat.search(q[None], K)[1][0].tolist())) / K for q in queries
    ]
    goals = {"FAISS IndexFlatIP": 1.0, "semantic_search dot_score": 4.0, "semantic_search": 15.0}
    found = f"query, {n:,} instructions, recall@10 {statistics.mean(recall):.3f}"
    what = {peer: f"{found}, p99 {_p99(times['ours']):.2f} and {_p99(times[peer]):.2f} CPU-ms" for peer in goals}
    return [_row(what[peer], times["ours"], times[peer], peer, "CPU-ms", goals[peer], smaller=True) for peer in goals]


def _several_row(folder: Path, n: int, quick: bool) -> dict[str, Any]:
    """Three instructions of a target against tasks of six: ours ranks tasks, the peer finds each one's instructions."""
    from sentence_transformers import util

    wide = _unit_rows(n)
    path = synthetic_index(folder, n // SEVERAL, D, SEVERAL)
    np.save(path / "vectors.npy", wide.astype(np.float16))
    retriever, corpus = Retriever(Index(path, "synthetic")), torch.from_numpy(wide)
    everything, target = np.arange(n // SEVERAL), Target("target", ("a", "b", "c"))
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(5 if quick else 40):
        queries = _unit_rows(3, seed=number + 1)
        for times, search in (
            (ours, lambda q: retriever.rank(target, Vectors(q), Rules(), everything, K)),
            (
                theirs,
                lambda q: util.semantic_search(torch.from_numpy(q), corpus, top_k=K, score_function=util.dot_score),
            ),
        ):
            taken = _milliseconds(search, queries, time.process_time)
            times += [taken] if number else []  # the first keeps a copy in float32
    what = f"query of 3 instructions, {n:,} instructions in tasks of {SEVERAL}, p99 {_p99(ours):.1f} CPU-ms"
    return _row(what, ours, theirs, "semantic_search dot_score of each", "CPU-ms", None, smaller=True)


def _milliseconds(search: Callable[[Any], Any], query: Any, clock: Clock = time.perf_counter) -> float:
    start = clock()
    search(query)
    return (clock() - start) * 1000


def _p99(values: list[float]) -> float:
    return float(np.percentile(values, 99))


def _unit_rows(n: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, D), dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def _mapped(path: Path, wide: Any) -> Any:
    halves = np.lib.format.open_memmap(path, "w+", np.float16, wide.shape)
    halves[:] = wide
    halves.flush()
    return np.load(path, mmap_mode="r")


def _open_rows(folder: Path, tasks: int) -> list[dict[str, Any]]:
    """Open an unpacked index and find a task by id, again and again."""
    path = synthetic_index(folder, tasks, D)

    def opened() -> None:
        found = Index(path, "synthetic")
        found.find(f"task{tasks // 3:07}")

    times = [_milliseconds(lambda _: opened(), None) for _ in range(20)]
    what = f"open an index of {tasks:,} tasks and find one by id"
    return [_row(what, times, [OPEN_GOAL_MS], "the goal", "ms", 1.0, smaller=True)]


# The table ------------------------------------------------------------------------------------------------------------


def _rate(run: Callable[[], Any], items: int) -> Callable[[], float]:
    def measured() -> float:
        start = time.process_time()
        run()
        return items / (time.process_time() - start)

    return measured


def _interleaved(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            rates[name].append(run())
    return rates


def _row(
    what: str,
    ours: list[float],
    peer: list[float],
    peer_name: str,
    unit: str,
    goal: float | None,
    smaller: bool = False,
) -> dict[str, Any]:
    mine, theirs = statistics.median(ours), statistics.median(peer)
    spread = f"ours {min(ours):,.2f}–{max(ours):,.2f}, peer {min(peer):,.2f}–{max(peer):,.2f}"
    ratio = theirs / mine if smaller else mine / theirs
    return {
        "what": what, "ours": round(mine, 3), "peer": round(theirs, 3), "peer_name": peer_name, "unit": unit,
        "ratio": round(ratio, 2), "spread": f"{spread} ({len(ours)} and {len(peer)} measured)", "goal": goal,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(rows("--quick" in sys.argv), indent=1, ensure_ascii=False))
