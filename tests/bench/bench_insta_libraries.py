"""Retrieval on the real libraries: INSTA beside BM25, random, one example per task and what the authors published.

    ./tenfold bench insta_libraries [--quick]

112 English natural instructions are targets, the other 1,412 tasks the library; relevant is the same category. Strict
rows remove candidates of the target's own data set first. A figure is the mean over targets, its spread the 95 %
bootstrap interval and the sign test of nDCG@10 against INSTA; what chance decides is repeated over seeds. Further rows
are P3 with one data set left out at a time, and how much of the authors' published selections ours share. What
alignment adds: `insta_heads`. Needs the files described in `docs/insta.md` under `$TENFOLD_REAL_DATA/insta`; about two
minutes on one core. `--quick`: 300 tasks.
"""

import hashlib
import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.jobs.catalog.insta import (
    EvaluateParams,
    EvaluateResult,
    IndexParams,
    MethodFigures,
    QueryParams,
)
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.jobs.spec import Params
from shared.metrics.retrieval import overlap_at
from tests import published_selections
from tests.bench.bench_insta import one_thread, real_folder
from workers.insta.jobs import evaluate, index, query

LIBRARY, INDEX, QUERIES, RELEVANCE, BASE = ("file:" + letter * 64 for letter in "abcde")
METRICS = ("precision@10", "ndcg@10")
NAMES = {"insta": "INSTA", "bm25": "BM25", "data_sample": "one example per task", "rrf": "INSTA + BM25"}
RANDOM_SEEDS = range(42, 52)
REFINEMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("raw Jinja, all templates, max", {"refine": "raw", "original_task_only": False}, "max"),
    ("strip, all templates, max", {"refine": "strip", "original_task_only": False}, "max"),
    ("names, all templates, mean", {"original_task_only": False}, "mean"),
    ("names, all templates, vote", {"original_task_only": False}, "vote"),
    ("names, all templates, max", {"original_task_only": False}, "max"),
    ("names, original task, max", {}, "max"),
]
Row = dict[str, Any]


class Bench:
    """Jobs without a cluster, each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._jobs, self._files = folder, 0, 0

    def run(self, entry: Callable[[Any, Any], Any], params: Params, **inputs: Path) -> tuple[Any, Path]:
        """(result, folder of artifacts)."""
        self._jobs += 1
        out = self._folder / f"job{self._jobs}"
        refs = {"library": LIBRARY, "index": INDEX, "queries": QUERIES, "relevance": RELEVANCE, "base": BASE}
        ctx = LocalContext(
            out, inputs={refs[name]: path for name, path in inputs.items()}, cache=self._folder / "cache"
        )
        result = entry(params, ctx)
        ctx.close()
        return result, out

    def index_of(self, records: list[dict[str, Any]], **params: Any) -> Path:
        path = self.file_of(records)
        return self.run(index, IndexParams(library=LIBRARY, **params), library=path)[1] / "index.tar"

    def file_of(self, records: list[dict[str, Any]]) -> Path:
        self._files += 1
        path = self._folder / f"records{self._files}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return path


def rows(quick: bool = False) -> list[Row]:
    real = real_folder()
    if real is None:
        return [{"what": "real libraries", "spread": "skipped: no files under $TENFOLD_REAL_DATA/insta"}]
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        bench, tasks = Bench(Path(folder)), _records(real / "niv2_tasks.jsonl")
        tasks = tasks[:300] if quick else tasks
        table = _development_rows(bench, tasks, quick)
        if quick:
            return table
        table += [*_p3_rows(bench, real), *_published_p3_rows(bench, real)]
        return [*table, *_published_natural_rows(bench, real, tasks)]


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# The development split ------------------------------------------------------------------------------------------------


def development_split(tasks: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(library, targets): every seventh English task, by the hash of its id, of categories with six or more."""
    english = [each for each in tasks if each["languages"] == ["English"] and each["category"] != "Translation"]
    sizes = Counter(each["category"] for each in english if each["category"])
    chosen = {
        each["id"] for each in english
        if sizes[each["category"]] >= 6 and int(hashlib.sha1(each["id"].encode()).hexdigest()[:8], 16) % 7 == 0
    }  # fmt: skip
    return [each for each in tasks if each["id"] not in chosen], [each for each in tasks if each["id"] in chosen]


def _development_rows(bench: Bench, tasks: list[dict[str, Any]], quick: bool) -> list[Row]:
    library, targets = development_split(tasks)
    path, queries = bench.index_of(library, samples=True), bench.file_of(targets)
    plain = ["insta", "bm25", "rrf", "data_sample", "random"]
    before, _ = bench.run(evaluate, _evaluation(plain), index=path, queries=queries)
    size = f"{len(targets)} targets, {len(library):,} tasks"
    return [
        *(row for method in plain[1:] for row in _method_rows(before, method, size)),
        *([] if quick else _random_rows(bench, path, queries)),
    ]


def _random_rows(bench: Bench, path: Path, queries: Path) -> list[Row]:
    """What chance gives, over ten orders."""
    found = []
    for seed in RANDOM_SEEDS:
        params = EvaluateParams(index=INDEX, queries=Ref(QUERIES), methods=["random"], seed=seed)
        found.append(bench.run(evaluate, params, index=path, queries=queries)[0])
    return [_random_row(metric, strict, found) for strict in (False, True) for metric in METRICS]


def _random_row(metric: str, strict: bool, results: list[EvaluateResult]) -> Row:
    values = [_figures(result, "random", strict).metrics[metric].micro or 0.0 for result in results]
    return {
        "what": f"random, {len(values)} seeds: {'strict ' if strict else ''}{metric}",
        "ours": round(statistics.mean(values), 3), "peer": None, "peer_name": "", "unit": metric, "ratio": None,
        "spread": f"{min(values):.3f}–{max(values):.3f} over seeds", "goal": None,
    }  # fmt: skip


def _evaluation(methods: list[str]) -> EvaluateParams:
    return EvaluateParams.model_validate({"index": INDEX, "queries": QUERIES, "methods": methods})


def _figures(result: EvaluateResult, method: str, strict: bool) -> MethodFigures:
    return next(each for each in result.figures if (each.method, each.strict) == (method, strict))


def _method_rows(result: EvaluateResult, method: str, size: str) -> list[Row]:
    """INSTA beside one baseline, by metric, all candidates and strict."""
    return [
        _row(metric, strict, _figures(result, "insta", strict), _figures(result, method, strict),
             "INSTA", NAMES.get(method, method), size, _figures(result, method, strict).sign_test_p)
        for strict in (False, True) for metric in METRICS
    ]  # fmt: skip


def _row(
    metric: str, strict: bool, ours: MethodFigures, peer: MethodFigures, name: str, peer_name: str, size: str,
    p: float | None,
) -> Row:  # fmt: skip
    mine, theirs = ours.metrics[metric], peer.metrics[metric]
    assert mine.micro is not None
    assert theirs.micro is not None
    queries = "" if ours.queries == peer.queries else f", {peer.queries} of them with an example"
    test = f"sign test p {p:.1g}" if p is not None and metric == "ndcg@10" else ""
    spread = f"[{mine.low:.3f}, {mine.high:.3f}] and [{theirs.low:.3f}, {theirs.high:.3f}] {test}".rstrip()
    return {
        "what": f"{name}: {'strict ' if strict else ''}{metric}, {size}{queries}", "ours": round(mine.micro, 3),
        "peer": round(theirs.micro, 3), "peer_name": peer_name, "unit": metric,
        "ratio": round(mine.micro / theirs.micro, 2) if theirs.micro else None, "spread": spread, "goal": None,
    }  # fmt: skip


# How P3 is refined ----------------------------------------------------------------------------------------------------


def _p3_rows(bench: Bench, real: Path) -> list[Row]:
    """One data set of 35 left out at a time; the peer of each refinement is raw Jinja."""
    train = [each for each in _records(real / "p3_tasks.jsonl") if each["role"] == "train"]
    found: list[tuple[str, MethodFigures]] = []
    for title, params, aggregate in REFINEMENTS:
        path = bench.index_of(train, **params)
        asked = EvaluateParams.model_validate({"index": INDEX, "methods": ["insta"], "aggregate": aggregate})
        found.append((title, bench.run(evaluate, asked, index=path)[0].figures[0]))
    raw = found[0][1]
    return [
        _row(metric, False, figures, raw, f"P3, {title}", "raw Jinja", f"{figures.queries} targets", None)
        for title, figures in found[1:] for metric in ("precision@1", "precision@5", "ndcg@10")
    ]  # fmt: skip


# Published selections -------------------------------------------------------------------------------------------------


def _published_p3_rows(bench: Bench, real: Path) -> list[Row]:
    """Tasks that our five share with the published five: all templates, `max`."""
    records = [each for each in _records(real / "p3_tasks.jsonl") if each["role"] in ("train", "eval")]
    path = bench.index_of(records, original_task_only=False)
    train = {each["id"]: each["name"] for each in records if each["role"] == "train"}
    ours = {
        each["name"]: [train[name] for name in _selection(bench, path, each["id"], 5, {"allow": list(train)})]
        for each in records if each["role"] == "eval" and each["name"] in published_selections.P3
    }  # fmt: skip
    lists = {"INSTA": published_selections.P3, "INSTA-aligned": published_selections.P3_ALIGNED}
    return [
        _shared_row(f"P3, tasks of 5 shared with the published {name}",
                    [5 * overlap_at(found, published[target].split(), 5) for target, found in ours.items()], 2.0)
        for name, published in lists.items()
    ]  # fmt: skip


def _published_natural_rows(bench: Bench, real: Path, tasks: list[dict[str, Any]]) -> list[Row]:
    """overlap@70 with the selections in a clone of the authors' repository."""
    what = "natural instructions, overlap@70 with the published selections"
    published = published_selections.natural_instructions(real, [each["id"] for each in tasks])
    if published is None:
        clone = f"$TENFOLD_REAL_DATA/insta/{published_selections.CLONE}"
        return [{"what": what, "spread": f"skipped: no clone of the authors' code at {clone}"}]
    path, k = bench.index_of(tasks), published_selections.NATURAL_K
    values = [
        overlap_at(_selection(bench, path, each.target, k, {"splits": ["train"]}), each.selected, k)
        for each in published
    ]  # fmt: skip
    return [_shared_row(what, values, 0.28)]


def _selection(bench: Bench, path: Path, target: str, k: int, filters: dict[str, Any]) -> list[str]:
    """Ids of the selected tasks, from the file that holds all of them."""
    asked = QueryParams.model_validate(
        {"index": INDEX, "task_id": target, "k": k, "filters": filters, "figures": False}
    )
    out = bench.run(query, asked, index=path)[1]
    return [task["task_id"] for task in json.loads((out / "results.json").read_text(encoding="utf-8"))]


def _shared_row(what: str, values: list[float], goal: float) -> Row:
    return {
        "what": f"{what}, {len(values)} targets", "ours": round(statistics.mean(values), 3), "peer": goal,
        "peer_name": "least", "unit": "shared", "ratio": round(statistics.mean(values) / goal, 2),
        "spread": f"{min(values):.2f}–{max(values):.2f} over targets", "goal": 1.0,
    }  # fmt: skip
