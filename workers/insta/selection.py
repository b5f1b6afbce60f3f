"""The selection for one target: ranked tasks with reasons, background, margin and warnings. `select` is the entry."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.jobs.catalog.insta import Background, CategoryShare, Filters, QueryParams, Selected
from shared.jobs.errors import InvalidInput
from shared.models.sentence_encoder import SentenceEncoder
from workers.insta.bm25 import STOP_WORDS, WORD
from workers.insta.explaining import Explainer
from workers.insta.filtering import Candidates
from workers.insta.retrieval import Retriever, Rules, Scored, Target, Vectors, no_example
from workers.insta.scoring import Ints, Ranking, default_k

CURVE = 50  # ranks drawn beyond k
FOREIGN = 0.3  # share of letters outside the Latin alphabet
ENOUGH_WORDS = 8
APPROXIMATE = "search graph is approximate: nearer tasks may be missing; search exact finds them all"
_ELSEWHERE = (
    "all am an as at be by can do for has have he her in is it me more no of on once or over so some such to under was "
    "we who will you"
)
ELSEWHERE = frozenset(_ELSEWHERE.split())
"""English function words that other languages write the same (Spanish no, German so, Italian in): they say nothing."""
ENGLISH = (STOP_WORDS - ELSEWHERE) | {"given"}
LEAST_ENGLISH = 0.02  # share of words; the least among 1,524 natural instructions is 0.035


@dataclass(frozen=True)
class Selection:
    """What was selected, and all that figures and artifacts need."""

    selected: list[Selected]
    scored: Scored
    k: int
    candidates: int
    vectors: NDArray[np.float32]  # (m, d) of the target, before any head
    warnings: list[str]

    @property
    def margin(self) -> float | None:
        """score_k − score_(k + 1)."""
        scores = self.scored.ranking.scores
        return float(scores[self.k - 1] - scores[self.k]) if scores is not None and len(scores) > self.k else None

    @property
    def background(self) -> Background | None:
        spread = self.scored.spread
        return Background(mean=round(spread.mean, 9), sd=round(spread.sd, 9)) if spread else None

    @property
    def categories(self) -> list[CategoryShare]:
        """The largest first; equal shares by name, tasks without category last."""
        counts = Counter(task.category for task in self.selected)
        order = sorted(counts, key=lambda name: (-counts[name], name is None, name or ""))
        return [CategoryShare(category=name, share=counts[name] / len(self.selected)) for name in order]


def rules_of(params: Any) -> Rules:
    """How a job's tasks are ranked."""
    return Rules(
        params.method, params.aggregate, params.vote_depth, params.vote_weighted, params.seed, params.use_head,
        params.search,
    )  # fmt: skip


class Asked(NamedTuple):
    """What one target may be answered with."""

    candidates: Ints
    k: int


def asked_of(retriever: Retriever, filters: Candidates, target: Target, params: QueryParams) -> Asked:
    """Candidates and k, known before anything is encoded. Raises InvalidInput: no example to compare, no task left,
    k above the tasks left."""
    if params.method == "data_sample" and target.example is None:
        raise no_example(target)
    if params.search == "graph":
        retriever.check_graph()
    allowed = retriever.rankable(params.method, filters.of(target))
    return Asked(allowed, tasks_to_select(params, allowed, retriever.index.size))


def select(retriever: Retriever, target: Target, vectors: Vectors, asked: Asked, params: QueryParams) -> Selection:
    """Rank the candidates and explain the first k."""
    index, rules = retriever.index, rules_of(params)
    allowed, k = asked
    scored = retriever.rank(target, vectors, rules, allowed, min(len(allowed), k + 1 + CURVE))
    scored, warnings = above_minimum(scored, params, k)
    shown = min(k, len(scored.ranking.tasks))
    searcher, queries = retriever.searcher(rules), retriever.queries(vectors, rules)
    explainer = Explainer(index, target, scored)
    selected = [explainer.explained(place, searcher, queries) for place in range(shown)]
    said = [*filter_warnings(params.filters, target), *warnings, *identical_hits(selected)]
    said += [APPROXIMATE] if params.search == "graph" else []
    return Selection(selected, scored, k, len(allowed), vectors.instructions, said)


def tasks_to_select(params: QueryParams, allowed: Ints, size: int) -> int:
    """k, or its default. Raises InvalidInput."""
    if params.method == "all":
        return len(allowed)
    if params.k is not None and params.k > len(allowed):
        those = "tasks with an example that are" if params.method == "data_sample" else "tasks"
        raise InvalidInput(f"k {params.k} is above the {len(allowed)} {those} left by the filters; give at most that")
    return params.k or min(default_k(size), len(allowed))


def above_minimum(scored: Scored, params: QueryParams, k: int) -> tuple[Scored, list[str]]:
    """The ranking without tasks below min_score, and what to say where fewer than k are left."""
    ranking, least = scored.ranking, params.filters.min_score
    if least is None or ranking.scores is None:
        few = f"only {len(ranking.tasks)} tasks are ranked by {params.aggregate} at depth {params.vote_depth}; k is {k}"
        return scored, [few] if len(ranking.tasks) < k else []
    kept = ranking.scores >= least
    left, warnings = int(kept.sum()), []
    if left == 0:
        warnings = [f"nothing above min_score {least}: the best task has {_best(ranking)}"]
    elif left < k:
        warnings = [f"only {left} tasks score min_score {least} or more; k is {k}"]
    return scored._replace(ranking=Ranking(ranking.tasks[kept], ranking.scores[kept])), warnings


def _best(ranking: Ranking) -> str:
    return "no score" if ranking.scores is None or not len(ranking.scores) else f"{ranking.scores[0]:.4f}"


def filter_warnings(filters: Filters, target: Target) -> list[str]:
    """Whether a filter could not do what it is for."""
    if filters.exclude_same_dataset and target.dataset is None:
        return ["filters.exclude_same_dataset changed nothing: the target's data set is not known; give dataset"]
    return []


def identical_hits(selected: list[Selected]) -> list[str]:
    """Whether the first hits say the same: one definition may serve several tasks."""
    first = [task for task in selected[1:] if selected and task.duplicate_of == selected[0].task_id]
    if not first or first[0].rank != 2:
        return []
    return [f"the top hits are identical: {selected[0].task_id} and {', '.join(t.task_id for t in first[:3])}"]


def target_warnings(target: Target, encoder: SentenceEncoder) -> list[str]:
    """Truncated and foreign instructions."""
    warnings = []
    for number, (text, tokens) in enumerate(
        zip(target.instructions, encoder.tokenise(target.instructions), strict=True), start=1
    ):
        if tokens.truncated:
            warnings.append(f"instruction {number} is longer than {encoder.max_tokens} tokens: its end was not read")
        if not looks_english(text):
            warnings.append(f"instruction {number} does not look English: the encoder may not know its language")
    return warnings


def looks_english(text: str) -> bool:
    """Latin letters, and in a longer text function words that only English has."""
    letters = [c for c in text if c.isalpha()]
    if sum(not c.isascii() for c in letters) > FOREIGN * len(letters):
        return False
    words = WORD.findall(text.lower())
    return len(words) < ENOUGH_WORDS or sum(word in ENGLISH for word in words) >= LEAST_ENGLISH * len(words)
