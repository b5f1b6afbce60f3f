"""Rankings of an index's tasks for a target, by INSTA and by every baseline. `Retriever.rank` is the entry point.

Pairwise transferability, the older selectors' way, is not among them: it needs a tuned model for each pair of tasks.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.data.instruction_tasks import Instance
from shared.jobs.errors import InvalidInput
from shared.models.sentence_encoder import SentenceEncoder
from workers.insta import scoring
from workers.insta.bm25 import BM25
from workers.insta.graph import Graph
from workers.insta.index import Index, through_head
from workers.insta.index_file import GRAPH
from workers.insta.moments import Spread, background
from workers.insta.scoring import Aggregate, Ints, Ranking
from workers.insta.search import NEAR_TIE, SPARE, Searcher

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ranker = Literal["insta", "insta_unaligned", "bm25", "random", "all", "data_sample", "rrf"]
RRF_CONSTANT = 60
FEW = 4
"""Where so many times the tasks asked for are candidates, only the first are scored in float64."""
ONLY = "target"
"""The id of a target that a query writes out."""


@dataclass(frozen=True)
class Target:
    """What somebody wants a model to be good at."""

    id: str
    instructions: tuple[str, ...]
    dataset: str | None = None
    category: str | None = None
    example: Instance | None = None
    number: int | None = None  # in the library, if it is one of its tasks
    where: str = "the target"


@dataclass(frozen=True)
class Vectors:
    """A target as the index's encoder sees it, head applied; (m, d) and the example's (d,)."""

    instructions: NDArray[np.float32]
    example: NDArray[np.float32] | None = None
    similarities: Floats | None = None  # (m, N), where many targets were compared in one product


@dataclass(frozen=True)
class Rules:
    """How tasks are ranked."""

    method: Ranker = "insta"
    aggregate: Aggregate = "max"
    vote_depth: int = 10
    vote_weighted: bool = False
    seed: int = 42
    use_head: bool = True
    search: Literal["exact", "graph"] = "exact"


class Scored(NamedTuple):
    """A ranking, and how scores lie over the whole library; None where the method has no scores."""

    ranking: Ranking
    spread: Spread | None


class Retriever:
    """Ranks the tasks of one index; keeps what ranking needs in memory."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.offsets: Ints = np.asarray(index.offsets)

    @cached_property
    def plain(self) -> Searcher:
        """Over the vectors as encoded."""
        return Searcher(self.index.vectors)

    @cached_property
    def aligned(self) -> Searcher:
        """Over the vectors through the head."""
        return Searcher(self.index.aligned) if self.index.is_aligned else self.plain

    @cached_property
    def bm25(self) -> BM25:
        return BM25.of(self.index.texts)

    def check_graph(self) -> None:
        """Raises InvalidInput where an index has no graphs to walk."""
        if "graph" not in self.index.manifest:
            raise InvalidInput(f"{self.index.name} was made without graph; use search exact, or index with graph: true")

    @cached_property
    def graph(self) -> Graph:
        said = self.index.manifest["graph"]
        return Graph(self.index.folder / GRAPH, said["bytes"], self.plain.vectors)

    @cached_property
    def has_sample(self) -> Bools:
        """(T,): whether a task's example was embedded."""
        return np.asarray(self._samples.any(axis=1))

    @cached_property
    def sampled(self) -> Searcher:
        return Searcher(self._samples)

    @cached_property
    def _samples(self) -> NDArray[np.float16]:
        samples = self.index.samples
        if samples is None or not samples.any():
            raise InvalidInput(
                f"{self.index.name} holds no examples, which method data_sample compares; give tasks an example "
                "{input, output} and index with samples: true"
            )
        return samples

    def rankable(self, method: str, candidates: Ints) -> Ints:
        """Candidates that a method can rank. Raises InvalidInput where data_sample finds none with an example."""
        if method != "data_sample":
            return candidates
        left = candidates[self.has_sample[candidates]]
        if not len(left):
            raise InvalidInput(
                f"method data_sample: none of the {len(candidates)} tasks left by the filters has an example; loosen "
                "filters, or choose another method"
            )
        return left

    def searcher(self, rules: Rules) -> Searcher:
        return self.aligned if rules.use_head and rules.method != "insta_unaligned" else self.plain

    def vectors(self, targets: Sequence[Target], encoder: SentenceEncoder, with_examples: bool) -> list[Vectors]:
        """Unit vectors of many targets, encoded together, before any head."""
        texts = [text for target in targets for text in target.instructions]
        examples = [target.example.text for target in targets if target.example and with_examples]
        encoded = encoder.encode([*texts, *examples])
        rest, own = iter(encoded[len(texts) :]), iter(encoded[: len(texts)])
        return [
            Vectors(
                np.stack([next(own) for _ in target.instructions]),
                next(rest) if target.example and with_examples else None,
            )
            for target in targets
        ]

    def rank(
        self, target: Target, vectors: Vectors, rules: Rules, candidates: Ints, depth: int | None = None
    ) -> Scored:
        """Candidates from the best on; at least `depth` of them where there are so many (None: all)."""
        match rules.method:
            case "random":
                return Scored(_shuffled(candidates, target, rules.seed), None)
            case "all":
                return Scored(Ranking(candidates, None), None)
            case "rrf":
                return self._fused(target, vectors, rules, candidates)
            case "data_sample":
                return self._by_sample(target, vectors, candidates)
            case "bm25":
                scores = np.stack([self.bm25.scores(text) for text in target.instructions])
                return self._aggregated(scores, rules, candidates)
        queries = self.queries(vectors, rules)
        if rules.search == "graph" and depth is not None:
            return self._by_graph(queries, rules, candidates, depth)
        if self._is_plain_cosine(vectors, rules) and depth is not None:
            return self._nearest(queries[0], rules, candidates, depth)
        similarities = vectors.similarities
        if similarities is None and rules.aggregate != "vote" and depth is not None and FEW * depth <= len(candidates):
            return self._first(queries, rules, candidates, depth)
        if similarities is None:
            similarities = self.searcher(rules).similarities(queries)
        return self._aggregated(similarities, rules, candidates)

    def compared(self, many: Sequence[Vectors], rules: Rules) -> list[Vectors]:
        """The same vectors with the similarities of one product over all of them, where ranking reads these."""
        if rules.method not in ("insta", "insta_unaligned", "rrf") or rules.search == "graph":
            return list(many)
        if rules.method != "rrf" and all(self._is_plain_cosine(vectors, rules) for vectors in many):
            return list(many)
        product = self.searcher(rules).similarities(np.concatenate([self.queries(each, rules) for each in many]))
        ends = np.cumsum([len(each.instructions) for each in many])
        parts = np.split(product, ends[:-1])
        return [replace(each, similarities=part) for each, part in zip(many, parts, strict=True)]

    def _is_plain_cosine(self, vectors: Vectors, rules: Rules) -> bool:
        """One instruction on both sides: every aggregate but vote is the cosine itself, which a scan finds."""
        return self._is_one_cosine(vectors.instructions) and rules.aggregate != "vote"

    def _is_one_cosine(self, queries: NDArray[np.float32]) -> bool:
        return self.index.is_one_to_one and len(queries) == 1

    def queries(self, vectors: Vectors, rules: Rules) -> NDArray[np.float32]:
        """(m, d) as they are searched: through the head, if there is one and it is wanted."""
        if self.index.is_aligned and rules.use_head and rules.method != "insta_unaligned":
            return through_head(vectors.instructions, self.index.head)
        return vectors.instructions

    def _nearest(self, query: NDArray[np.float32], rules: Rules, candidates: Ints, depth: int) -> Scored:
        """The plain cosine: one instruction per task on both sides. Reads no more than the scan does."""
        allowed = None
        if len(candidates) < self.index.size:
            allowed = np.zeros(self.index.size, np.bool_)
            allowed[candidates] = True
        found = self.searcher(rules).nearest(query, depth, allowed, self.index.id_rank)
        aligned = rules.use_head and rules.method != "insta_unaligned"
        return Scored(Ranking(found.rows, found.cosines), background(query, self.index.moments(aligned)))

    def _first(self, queries: NDArray[np.float32], rules: Rules, candidates: Ints, depth: int) -> Scored:
        """The first `depth` candidates: all tasks in float32, then those that may be among them in float64."""
        searcher, aggregate = self.searcher(rules), rules.aggregate
        assert aggregate != "vote"
        scores = scoring.aggregate(searcher.rough(queries).astype(np.float64), self.offsets, aggregate)
        spread = Spread(float(scores.mean()), float(scores.std()))
        least = np.partition(scores[candidates], -depth)[-depth]
        near = candidates[scores[candidates] >= least - 2 * NEAR_TIE]
        scores[near] = self._exact_scores(queries, rules, near)
        return Scored(scoring.by_score(scores, self.index.id_rank, near), spread)

    def _by_graph(self, queries: NDArray[np.float32], rules: Rules, candidates: Ints, depth: int) -> Scored:
        """About the first `depth` candidates: tasks of rows that the graphs lead to, each scored exactly."""
        near, wanted = np.zeros(0, np.int64), depth + SPARE
        while True:
            rows = np.concatenate([self.graph.nearest(query, wanted) for query in queries])
            tasks = np.unique(self.index.task_of_row(rows))
            near = tasks[np.searchsorted(candidates, tasks, "right") > np.searchsorted(candidates, tasks)]
            if len(near) >= depth or wanted >= self.index.rows:
                break
            wanted *= 4
        scores = np.full(self.index.size, -np.inf)
        scores[near] = self._exact_scores(queries, rules, near)
        spread = background(queries[0], self.index.moments(False)) if self._is_one_cosine(queries) else None
        return Scored(scoring.by_score(scores, self.index.id_rank, near), spread)

    def _exact_scores(self, queries: NDArray[np.float32], rules: Rules, tasks: Ints) -> Floats:
        """(tasks,) in float64."""
        assert rules.aggregate != "vote"
        lengths = np.diff(self.offsets)[tasks]
        rows = np.concatenate([np.arange(self.offsets[task], self.offsets[task + 1]) for task in tasks])
        exact = np.stack([self.searcher(rules).exact(query, rows) for query in queries])
        return scoring.aggregate(exact, np.concatenate([[0], np.cumsum(lengths)]), rules.aggregate)

    def _aggregated(self, similarities: Floats, rules: Rules, candidates: Ints) -> Scored:
        if rules.aggregate == "vote":
            return Scored(
                scoring.vote(similarities, self.offsets, candidates, rules.vote_depth, rules.vote_weighted), None
            )
        scores = scoring.aggregate(similarities, self.offsets, rules.aggregate)
        spread = Spread(float(scores.mean()), float(scores.std()))
        return Scored(scoring.by_score(scores, self.index.id_rank, candidates), spread)

    def _by_sample(self, target: Target, vectors: Vectors, candidates: Ints) -> Scored:
        has_sample = self.has_sample
        if vectors.example is None:
            raise no_example(target)
        scores = self.sampled.similarities(vectors.example[None])[0]
        spread = Spread(float(scores[has_sample].mean()), float(scores[has_sample].std()))
        return Scored(scoring.by_score(scores, self.index.id_rank, candidates[has_sample[candidates]]), spread)

    def _fused(self, target: Target, vectors: Vectors, rules: Rules, candidates: Ints) -> Scored:
        """Reciprocal rank fusion of INSTA and BM25: Σ 1/(60 + rank). Ranks, and so the spread, are among candidates."""
        scores = np.zeros(self.index.size)
        methods: tuple[Ranker, ...] = ("insta", "bm25")
        for method in methods:
            ranking = self.rank(target, vectors, replace(rules, method=method), candidates).ranking
            scores[ranking.tasks] += 1 / (RRF_CONSTANT + 1 + np.arange(len(ranking.tasks)))
        chosen = scores[candidates]
        spread = Spread(float(chosen.mean()), float(chosen.std())) if len(chosen) else None
        return Scored(scoring.by_score(scores, self.index.id_rank, candidates), spread)


def no_example(target: Target) -> InvalidInput:
    return InvalidInput(f"{target.where}: {target.id} has no example, which method data_sample compares; give one")


@lru_cache(maxsize=4)
def retriever_of(index: Index) -> Retriever:
    """Kept with its index in the process."""
    return Retriever(index)


def _shuffled(candidates: Ints, target: Target, seed: int) -> Ranking:
    """An order of its own for every target, the same for the same seed."""
    salt = int.from_bytes(hashlib.sha256(target.id.encode()).digest(), "big")
    return Ranking(np.random.default_rng([seed, salt]).permutation(candidates), None)


def target_of_task(index: Index, number: int, where: str = "task_id") -> Target:
    """A task of the library as a target."""
    task = index.task(number)
    return Target(task.id, task.instructions, task.dataset, task.category, task.example, number, where)


def stored_vectors(index: Index, number: int) -> Vectors:
    """A library task's own vectors: nothing is encoded again."""
    rows: Any = slice(int(index.offsets[number]), int(index.offsets[number + 1]))
    sample = None if index.samples is None else np.asarray(index.samples[number], np.float32)
    return Vectors(np.asarray(index.vectors[rows], np.float32), sample if sample is not None and sample.any() else None)
