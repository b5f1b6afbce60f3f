"""What a head does to retrieval, over three seeds: on targets like those it saw, on unseen ones, on another library.

    ./tenfold bench insta_heads [--quick]

Every figure is the mean over targets of the mean over seeds, beside the encoder as it is. The spread is the 95 %
bootstrap interval over targets, least and most over seeds, and the sign test by target. The split of natural
instructions is that of `insta_libraries`; unseen are the twelve official test categories, left out of training. Needs
the files described in `docs/insta.md` under `$TENFOLD_REAL_DATA/insta`; about three minutes on one core. `--quick`: 300
tasks, one seed, the first rows.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.jobs.catalog.insta import AlignParams, EvaluateParams, IndexParams
from shared.metrics.retrieval import bootstrap_interval, sign_test
from tests import head_transfer
from tests.bench.bench_insta import one_thread, real_folder
from tests.bench.bench_insta_libraries import (
    BASE,
    INDEX,
    LIBRARY,
    QUERIES,
    RELEVANCE,
    Bench,
    Row,
    development_split,
)
from workers.insta.jobs import align, evaluate, index

SEEDS = range(42, 45)
METHODS = ["insta_unaligned", "insta"]
HARD = {"penalty": 0, "learning_rate": 1e-3}
ON_TARGETS: dict[str, dict[str, Any]] = {"default": {}, "no penalty, rate 1e-3": HARD}
ON_UNSEEN: dict[str, dict[str, Any]] = {"default": {}, "penalty 0.03": {"penalty": 0.03}, "no penalty, rate 1e-3": HARD}
Records = list[dict[str, Any]]
ByQuery = dict[str, dict[str, float]]
"""Metrics of every query that counts."""


def rows(quick: bool = False) -> list[Row]:
    real = real_folder()
    if real is None:
        return [{"what": "real libraries", "spread": "skipped: no files under $TENFOLD_REAL_DATA/insta"}]
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        bench, tasks = Bench(Path(folder)), head_transfer.records(real / "niv2_tasks.jsonl")
        seeds = SEEDS[:1] if quick else SEEDS
        table = _target_rows(bench, tasks[:300] if quick else tasks, seeds)
        if quick:
            return table
        path = bench.index_of(tasks)
        return [*table, *_unseen_rows(bench, tasks, path, seeds), *_transfer_rows(bench, tasks, path, real, seeds)]


def _target_rows(bench: Bench, tasks: Records, seeds: range) -> list[Row]:
    library, targets = development_split(tasks)
    path, queries = bench.index_of(library), bench.file_of(targets)
    asked = EvaluateParams.model_validate({"index": INDEX, "queries": QUERIES, "methods": METHODS})
    table = []
    for title, given in ON_TARGETS.items():
        measured = [_measured(bench, asked, _aligned(bench, path, seed, given), queries=queries) for seed in seeds]
        table += _rows(f"natural instructions, {title}", measured, ("precision@1", "precision@10", "ndcg@10"))
    return table


def _unseen_rows(bench: Bench, tasks: Records, path: Path, seeds: range) -> list[Row]:
    """Trained without the official test categories, asked for their tasks, each left out in turn."""
    official = sorted({each["category"] for each in tasks if each["split"] == "test" and each["category"]})
    asked = EvaluateParams.model_validate(
        {"index": INDEX, "methods": METHODS, "query_filters": {"categories": official}}
    )
    table = []
    for title, given in ON_UNSEEN.items():
        without = {"unseen_categories": official, "heldout_tasks": 0.0, "refit": False, **given}
        measured = [_measured(bench, asked, _aligned(bench, path, seed, without)) for seed in seeds]
        table += _rows(f"unseen categories, {title}", measured, ("ndcg@10",))
    return table


def _transfer_rows(bench: Bench, tasks: Records, path: Path, real: Path, seeds: range) -> list[Row]:
    """The head of natural instructions on P3: asked by FLAN's templates, and by each of its own data sets."""
    library, relations = bench.file_of(head_transfer.library(real)), bench.file_of(head_transfer.relations(real))
    train = bench.file_of([each for each in head_transfer.library(real) if each["role"] == "train"])
    targets, ids = bench.file_of(head_transfer.targets(real)), [each["id"] for each in tasks]
    by_flan = EvaluateParams.model_validate(
        {"index": INDEX, "queries": QUERIES, "relevance": RELEVANCE, "methods": METHODS, "aggregate": "mean_of_max"}
    )
    by_p3 = EvaluateParams.model_validate({"index": INDEX, "methods": METHODS})
    flan, own = [], []
    for seed in seeds:
        head = _aligned(bench, path, seed, {})
        inputs = {"queries": targets, "relevance": relations}
        flan.append(_measured(bench, by_flan, _carried(bench, head, library, ids), **inputs))
        own.append(_measured(bench, by_p3, _carried(bench, head, train, ids)))
    metrics = ("precision@1", "ndcg@10")
    return [
        *_rows("natural instructions' head, FLAN's targets among P3", flan, metrics),
        *_rows("natural instructions' head, P3's 35 among themselves", own, metrics),
    ]


def _aligned(bench: Bench, path: Path, seed: int, given: dict[str, Any]) -> Path:
    asked = AlignParams.model_validate({"index": INDEX, "seed": seed, **given})
    return bench.run(align, asked, index=path)[1] / "index.tar"


def _carried(bench: Bench, aligned: Path, library: Path, ids: list[str]) -> Path:
    """Another library under the head: its tasks are merged in, the head's own taken out."""
    asked = IndexParams.model_validate({"library": LIBRARY, "base_index": BASE, "update": "merge", "remove": ids})
    return bench.run(index, asked, library=library, base=aligned)[1] / "index.tar"


# Figures --------------------------------------------------------------------------------------------------------------


def _measured(bench: Bench, asked: EvaluateParams, path: Path, **inputs: Path) -> dict[tuple[str, bool], ByQuery]:
    """Metrics by (method, strict) and query."""
    out = bench.run(evaluate, asked, index=path, **inputs)[1]
    found: dict[tuple[str, bool], ByQuery] = {}
    for line in (out / "queries.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["metrics"] is not None:
            found.setdefault((record["method"], record["strict"]), {})[record["query_id"]] = record["metrics"]
    return found


def _rows(title: str, measured: list[dict[tuple[str, bool], ByQuery]], metrics: tuple[str, ...]) -> list[Row]:
    return [
        _row(f"{title}: {'strict ' if strict else ''}{metric}", metric,
             [_column(each["insta", strict], metric) for each in measured],
             _column(measured[0]["insta_unaligned", strict], metric))
        for strict in (False, True) for metric in metrics if ("insta", strict) in measured[0]
    ]  # fmt: skip


def _column(by_query: ByQuery, metric: str) -> NDArray[np.float64]:
    return np.array([by_query[query][metric] for query in sorted(by_query)])


def _row(what: str, metric: str, ours: list[NDArray[np.float64]], peer: NDArray[np.float64]) -> Row:
    """`ours` by seed, each (targets,); the peer has no seed."""
    over_seeds = np.mean(ours, axis=0)
    mine, theirs = bootstrap_interval(over_seeds, 1_000, 42), bootstrap_interval(peer, 1_000, 42)
    gain = bootstrap_interval(over_seeds - peer, 1_000, 42)
    by_seed = [float(each.mean()) for each in ours]
    test = sign_test(over_seeds, peer)
    return {
        "what": f"{what}, {len(peer)} targets, {len(ours)} seeds", "ours": round(float(over_seeds.mean()), 3),
        "peer": round(float(peer.mean()), 3), "peer_name": "INSTA", "unit": metric,
        "ratio": round(float(over_seeds.mean() / peer.mean()), 2), "goal": None,
        "spread": f"[{mine.low:.3f}, {mine.high:.3f}] and [{theirs.low:.3f}, {theirs.high:.3f}], gain "
                  f"[{gain.low:+.3f}, {gain.high:+.3f}], seeds {min(by_seed):.3f}–{max(by_seed):.3f}, "
                  f"{test.better} better {test.worse} worse p {test.p:.1g}",
    }  # fmt: skip
