"""Many queries in one job: encoded together, compared in one product, one line per query and rank."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from shared.jobs.catalog.insta import MAX_RESULTS, QueryParams, QueryResult, Selected
from shared.jobs.context import JobContext
from workers.insta.answers import within_bound
from workers.insta.encoders import encoder_of
from workers.insta.explaining import Explainer
from workers.insta.filtering import Candidates
from workers.insta.retrieval import Retriever, Vectors
from workers.insta.selection import Asked, above_minimum, asked_of, filter_warnings, rules_of, target_warnings
from workers.insta.targets import Target, read_targets

RESULTS = "results.jsonl"
CHUNK = 1_000  # queries between checkpoints
CELLS = 1 << 24
"""Similarities of one product: 128 MB."""
KEPT_WARNINGS = 20


class _Answered(NamedTuple):
    """One query's selection and its warnings."""

    selected: list[Selected]
    warnings: list[str]
    k: int


def answer_many(retriever: Retriever, params: QueryParams, ctx: JobContext) -> QueryResult:
    """results.jsonl and the first hundred of its lines. Every target is read before the encoder loads."""
    assert params.queries is not None
    targets = read_targets(ctx.input(params.queries), str(params.queries), retriever.index)
    allowed = Candidates(retriever.index, params.filters)
    for target in targets:  # what the last would be refused for is refused before the first is answered
        asked_of(retriever, allowed, target, params)
    encoder = encoder_of(retriever.index, ctx)
    restored = ctx.restored()
    state: dict[str, Any] = restored.state if restored else {"done": 0, "selected": 0, "k": 0, "warnings": []}
    journal = ctx.journal(RESULTS)
    for start in range(int(state["done"]), len(targets), CHUNK):
        chunk = targets[start : start + CHUNK]
        vectors = _compared(retriever, retriever.vectors(chunk, encoder, params.method == "data_sample"), params)
        for number, (target, own) in enumerate(zip(chunk, vectors, strict=True), start=start + 1):
            answered = _answer(retriever, target, own, asked_of(retriever, allowed, target, params), params)
            answered.warnings[:0] = [f"{target.id}: {text}" for text in target_warnings(target, encoder)]
            for task in answered.selected:
                journal.append_json(_line(task))
            state = _counted(state, answered, number)
            ctx.progress(number, len(targets), "queries")
        ctx.checkpoint(state)
    return _result(ctx, params, state, retriever.index.version)


def _compared(retriever: Retriever, vectors: Sequence[Vectors], params: QueryParams) -> Iterator[Vectors]:
    """A chunk's vectors with their similarities, as many in one product as fit the memory."""
    rules, batch, rows = rules_of(params), list[Vectors](), 0
    most = max(1, CELLS // max(1, retriever.index.rows))
    for each in vectors:
        if batch and rows + len(each.instructions) > most:
            yield from retriever.compared(batch, rules)
            batch, rows = [], 0
        batch.append(each)
        rows += len(each.instructions)
    yield from retriever.compared(batch, rules)


def _answer(retriever: Retriever, target: Target, vectors: Vectors, asked: Asked, params: QueryParams) -> _Answered:
    left, k = asked
    scored = retriever.rank(target, vectors, rules_of(params), left, k)
    scored, warnings = above_minimum(scored, params, k)
    explainer = Explainer(retriever.index, target, scored, target.id)
    selected = [explainer.selected(place) for place in range(min(k, len(scored.ranking.tasks)))]
    said = [*filter_warnings(params.filters, target), *warnings]
    return _Answered(selected, [f"{target.id}: {text}" for text in said], k)


def _line(task: Selected) -> dict[str, object]:
    left_out = {"best_pair", "per_query_scores", "shared_terms"}
    return task.model_dump(exclude=left_out)


def _counted(state: dict[str, Any], answered: _Answered, done: int) -> dict[str, Any]:
    warnings = [*state["warnings"], *answered.warnings][:KEPT_WARNINGS]
    selected = state["selected"] + len(answered.selected)
    return {"done": done, "selected": selected, "k": max(state["k"], answered.k), "warnings": warnings}


def _result(ctx: JobContext, params: QueryParams, state: dict[str, Any], version: str) -> QueryResult:
    journal = ctx.journal(RESULTS)
    journal.handle.flush()
    with journal.path.open(encoding="utf-8") as lines:
        first = [Selected.model_validate_json(_padded(line)) for line in islice(lines, MAX_RESULTS)]
    return QueryResult(
        results=within_bound(first), selected=state["selected"], queries=state["done"],
        k=state["k"], candidates=None, categories=[], margin=None, background=None,
        warnings=[str(text)[:300] for text in state["warnings"]],
        index_version=version,
    )  # fmt: skip


def _padded(line: str) -> str:
    """The line with the fields it leaves out."""
    return '{"best_pair":null,"per_query_scores":[],"shared_terms":[],' + line[1:]
