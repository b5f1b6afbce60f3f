"""Rankings against known relations: every method, all candidates and strict. `Evaluation` is the entry point."""

import csv
import io
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.data.instruction_tasks import json_lines
from shared.jobs.catalog.insta import EvaluateParams, EvaluateResult, Figure, MethodFigures
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.metrics.retrieval import all_metrics, bootstrap_interval, macro_mean, sign_test
from workers.insta.encoders import encoder_of
from workers.insta.filtering import Candidates, candidates
from workers.insta.index import Index
from workers.insta.retrieval import Bools, Ranker, Rules, Vectors, retriever_of, stored_vectors
from workers.insta.scoring import Ints
from workers.insta.targets import Target, read_targets, target_of_task

COMPARED = "ndcg@10"
PER_QUERY = "queries.jsonl"
VARIANTS = (False, True)  # all candidates, strict


class Relations(NamedTuple):
    """What makes a task relevant: a column's equal value, or ids by query."""

    column: str | None
    listed: dict[str, set[int]]  # task numbers


class _Measured(NamedTuple):
    """One query's metrics under one method and variant; None: no relevant candidate."""

    metrics: dict[str, float] | None
    category: str | None


class Evaluation:
    """One insta.evaluate job."""

    def __init__(self, params: EvaluateParams, index: Index, ctx: JobContext) -> None:
        self.params, self.index, self.ctx = params, index, ctx
        self.retriever = retriever_of(index)
        self.ks = sorted({*params.ks, 10})
        self.relations = read_relations(params, index, ctx)
        self.filters = Candidates(index, params.filters)
        self.allowed = self.filters.of(None)
        for method in params.methods:
            self.retriever.rankable(method, self.allowed)
        if "insta_unaligned" in params.methods and not index.is_aligned:
            raise InvalidInput(
                f"methods: insta_unaligned is insta without its head, and {index.name} has none; leave it out, or "
                "measure an index with a head"
            )
        self.targets, self.vectors = self._targets()

    def run(self) -> EvaluateResult:
        """Every method in turn; a finished one is checkpointed."""
        restored = self.ctx.restored()
        done: int = restored.state["done"] if restored else 0
        journal = self.ctx.journal(PER_QUERY)
        for number, method in enumerate(self.params.methods[done:], start=done):
            for place, target in enumerate(self.targets):
                for line in self._measure(method, target, self.vectors[place]):
                    journal.append_json(line)
                self.ctx.progress(number * len(self.targets) + place + 1, self.total, "queries × methods")
            self.ctx.checkpoint({"done": number + 1})
        journal.handle.flush()
        return self._result([line for _, line in json_lines(journal.path, PER_QUERY)])

    @cached_property
    def names(self) -> list[str]:
        """Of every metric."""
        return list(all_metrics(np.ones(1), self.ks))

    @property
    def total(self) -> int:
        return len(self.targets) * len(self.params.methods)

    def _targets(self) -> tuple[list[Target], list[Vectors]]:
        if self.params.queries == "leave_one_out":
            numbers = [int(number) for number in candidates(self.index, self.params.query_filters, None)]
            targets = [target_of_task(self.index, number) for number in numbers]
            return targets, [stored_vectors(self.index, number) for number in numbers]
        path = self.ctx.input(Ref(self.params.queries))
        targets = read_targets(path, self.params.queries, self.index)
        encoder = encoder_of(self.index, self.ctx)
        return targets, self.retriever.vectors(targets, encoder, "data_sample" in self.params.methods)

    # One query --------------------------------------------------------------------------------------------------------

    def _measure(self, method: Ranker, target: Target, vectors: Vectors) -> list[dict[str, object]]:
        """One line per variant. A target without example has no place in data_sample."""
        if method == "data_sample" and vectors.example is None:
            return []
        rules = Rules(
            method, self.params.aggregate, self.params.vote_depth, self.params.vote_weighted, self.params.seed
        )
        relevant = self._relevant(target)
        lines: list[dict[str, object]] = []
        for strict in VARIANTS:
            allowed = self._candidates(target, strict)
            ranked = self.retriever.rank(target, vectors, rules, allowed).ranking.tasks if len(allowed) else allowed
            whole = np.concatenate([ranked, np.setdiff1d(allowed, ranked, assume_unique=True)])  # vote ranks some
            found = relevant[whole]
            metrics = all_metrics(found.astype(np.float64), self.ks) if found.any() else None
            lines.append({"method": method, "strict": strict, "query_id": target.id, "category": target.category,
                          "relevant": int(found.sum()), "metrics": metrics})  # fmt: skip
        return lines

    def _candidates(self, target: Target, strict: bool) -> Ints:
        left = self.filters.left(target)
        return left[~self._same("dataset", target.dataset)[left]] if strict else left

    def _relevant(self, target: Target) -> Bools:
        if self.relations.column is None:
            named = np.zeros(self.index.size, np.bool_)
            named[sorted(self.relations.listed.get(target.id, set()))] = True
            return named
        value = target.category if self.relations.column == "category" else target.dataset
        return self._same(self.relations.column, value)

    def _same(self, column: str, value: str | None) -> Bools:
        values = self.index.column_values[column]
        if value is None or value not in values:
            return np.zeros(self.index.size, np.bool_)
        return np.asarray(self.index.codes(column) == values.index(value))

    # All queries ------------------------------------------------------------------------------------------------------

    def _result(self, lines: list[dict[str, object]]) -> EvaluateResult:
        figures = [
            self._figures(method, strict, lines) for method in self.params.methods for strict in VARIANTS
        ]  # fmt: skip
        self.ctx.write_text("categories.csv", self._per_category(lines))
        return EvaluateResult(
            figures=figures, queries=len(self.targets), candidates=len(self.allowed), index_version=self.index.version
        )

    def _figures(self, method: str, strict: bool, lines: list[dict[str, object]]) -> MethodFigures:
        own = _measured(lines, method, strict)
        counted = {query: each for query, each in own.items() if each.metrics is not None}
        categories = [each.category for each in counted.values()]
        metrics = {name: self._figure(_column(counted, name), categories) for name in self.names}
        first = _measured(lines, self.params.methods[0], strict)
        test = None
        if method != self.params.methods[0]:
            both = [q for q in counted if q in first and first[q].metrics is not None]
            pair = [_column({q: source[q] for q in both}, COMPARED) for source in (own, first)]
            test = sign_test(pair[0], pair[1]) if both else None
        return MethodFigures(
            method=method, strict=strict, queries=len(counted), skipped=len(own) - len(counted), metrics=metrics,
            sign_test_p=test and test.p, better=test and test.better, worse=test and test.worse,
        )  # fmt: skip

    def _figure(self, values: NDArray[np.float64], categories: Sequence[str | None]) -> Figure:
        """All of it null where no query counts."""
        interval = bootstrap_interval(values, self.params.resamples, self.params.seed)
        mean = float(values.mean()) if len(values) else None
        return Figure(micro=mean, low=interval.low, high=interval.high, macro=macro_mean(values, categories))

    def _per_category(self, lines: list[dict[str, object]]) -> str:
        """method, strict, category, queries and the mean of every metric."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["method", "strict", "category", "queries", *self.names])
        for method in self.params.methods:
            for strict in VARIANTS:
                own = [each for each in _measured(lines, method, strict).values() if each.metrics is not None]
                for category in sorted({each.category or "" for each in own}):
                    group = [each.metrics for each in own if (each.category or "") == category and each.metrics]
                    means = [float(np.mean([metrics[name] for metrics in group])) for name in self.names]
                    writer.writerow([method, strict, category, len(group), *means])
        return text.getvalue()


def read_relations(params: EvaluateParams, index: Index, ctx: JobContext) -> Relations:
    """Raises InvalidInput: a line without query_id and task_ids, an unknown task, a column that no task fills."""
    if params.relevance in ("category", "dataset"):
        if not index.column_values[params.relevance]:
            raise InvalidInput(f"no task of {index.name} has a {params.relevance}; give relevance as a file")
        return Relations(params.relevance, {})
    listed: dict[str, set[int]] = {}
    for where, record in json_lines(ctx.input(Ref(params.relevance)), params.relevance):
        ids = record.get("task_ids")
        if not isinstance(record.get("query_id"), str) or not isinstance(ids, list):
            raise InvalidInput(f'{where}: give {{"query_id": text, "task_ids": [ids]}}')
        numbers = {index.number_of(str(task_id), f"{where}: task id") for task_id in ids}
        listed.setdefault(record["query_id"], set()).update(numbers)
    return Relations(None, listed)


def _measured(lines: list[dict[str, object]], method: str, strict: bool) -> dict[str, _Measured]:
    return {
        str(line["query_id"]): _Measured(line["metrics"], line["category"])  # type: ignore[arg-type]
        for line in lines if line["method"] == method and line["strict"] == strict
    }  # fmt: skip


def _column(measured: dict[str, _Measured], name: str) -> NDArray[np.float64]:
    return np.array([each.metrics[name] for each in measured.values() if each.metrics is not None], np.float64)
