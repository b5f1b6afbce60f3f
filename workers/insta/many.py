"""Many queries in one job: encoded together, answered from one product, one line per query and rank."""

from itertools import islice
from typing import Any, NamedTuple

from shared.jobs.catalog.insta import MAX_RESULTS, QueryParams, QueryResult, Selected
from shared.jobs.context import JobContext
from shared.models.sentence_encoder import SentenceEncoder
from workers.insta.answers import within_bound
from workers.insta.explaining import Explainer
from workers.insta.filtering import candidates
from workers.insta.retrieval import Retriever, Target, Vectors
from workers.insta.selection import above_minimum, rules_of, tasks_to_select
from workers.insta.targets import read_targets

RESULTS = "results.jsonl"
CHUNK = 1_000  # queries between checkpoints
KEPT_WARNINGS = 20


class _Answered(NamedTuple):
    """One query's selection and its warnings."""

    selected: list[Selected]
    warnings: list[str]
    k: int


def answer_many(retriever: Retriever, encoder: SentenceEncoder, params: QueryParams, ctx: JobContext) -> QueryResult:
    """results.jsonl and the first hundred of its lines. Every target is read before the first is answered."""
    assert params.queries is not None
    targets = read_targets(ctx.input(params.queries), str(params.queries), retriever.index)
    restored = ctx.restored()
    state: dict[str, Any] = restored.state if restored else {"done": 0, "selected": 0, "k": 0, "warnings": []}
    journal = ctx.journal(RESULTS)
    for start in range(int(state["done"]), len(targets), CHUNK):
        chunk = targets[start : start + CHUNK]
        vectors = retriever.vectors(chunk, encoder, params.method == "data_sample")
        for number, (target, own) in enumerate(zip(chunk, vectors, strict=True), start=start + 1):
            answered = _answer(retriever, target, own, params)
            for task in answered.selected:
                journal.append_json(_line(task))
            state = _counted(state, answered, number)
            ctx.progress(number, len(targets), "queries")
        ctx.checkpoint(state)
    return _result(ctx, params, state, retriever.index.version)


def _answer(retriever: Retriever, target: Target, vectors: Vectors, params: QueryParams) -> _Answered:
    allowed = candidates(retriever.index, params.filters, target)
    k = tasks_to_select(params, allowed, retriever.index.size)
    scored = retriever.rank(target, vectors, rules_of(params), allowed, k)
    scored, warnings = above_minimum(scored, params.filters.min_score)
    explainer = Explainer(retriever.index, target, scored, target.id)
    selected = [explainer.selected(place) for place in range(min(k, len(scored.ranking.tasks)))]
    return _Answered(selected, [f"{target.id}: {text}" for text in warnings], k)


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
