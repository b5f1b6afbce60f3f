"""Whether alignment helps what it wasn't trained on: held-out tasks, and categories it never saw.

The dev set's Pearson of cosine and label doesn't tell: it rose while the retrieval of related tasks fell, because it
measures "which data set", not "which kind of task". So quality here is nDCG@10 of leave-one-out retrieval.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.jobs.catalog.insta import AlignParams, BeforeAfter, Retrieval
from shared.jobs.errors import InvalidInput
from shared.metrics.retrieval import bootstrap_interval, ndcg_at
from workers.insta import scoring
from workers.insta.index import Index

K = 10
RESAMPLES = 1_000
MOST_QUERIES = 400  # of each set
UNSEEN_SHARE = 0.15
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Tasks by their part in validation."""

    training: Ints
    heldout: Ints
    unseen: Ints
    unseen_names: list[str]


@dataclass(frozen=True)
class Relations:
    """Each task's group (what is relevant to it) and data set; −1: none."""

    groups: Ints
    datasets: Ints
    column: str

    @classmethod
    def of(cls, index: Index) -> "Relations":
        """Categories; where no task has one, data sets. Raises InvalidInput where there is neither."""
        datasets = np.asarray(index.codes("dataset"), np.int64)
        for column in ("category", "dataset"):
            codes = np.asarray(index.codes(column), np.int64)
            if (codes >= 0).any():
                return cls(codes, datasets, column)
        raise InvalidInput(f"no task of {index.name} has a category or a dataset: there is nothing to align to")


def split_tasks(index: Index, relations: Relations, params: AlignParams) -> Split:
    """Unseen groups are named or drawn; of the rest a share of the tasks is held out. Raises InvalidInput."""
    rng = np.random.default_rng([params.seed, 1])
    names, groups = index.column_values[relations.column], relations.groups
    unseen = _unseen_codes(names, groups, params, rng)
    is_unseen = np.isin(groups, unseen)
    seen = np.flatnonzero(~is_unseen & (groups >= 0))
    heldout = rng.permutation(seen)[: int(params.heldout_tasks * len(seen))]
    training = np.setdiff1d(np.flatnonzero(~is_unseen), heldout)
    return Split(training, np.sort(heldout), np.flatnonzero(is_unseen), [names[code] for code in unseen])


def _unseen_codes(names: list[str], groups: Ints, params: AlignParams, rng: np.random.Generator) -> list[int]:
    sizes = np.bincount(groups[groups >= 0], minlength=len(names))
    large = np.flatnonzero(sizes >= 2)
    if params.unseen_categories is not None:
        unknown = [name for name in params.unseen_categories if name not in names]
        if unknown:
            raise InvalidInput(f"unseen_categories names {unknown[0]!r}; this index has {', '.join(names[:8])}")
        return sorted(names.index(name) for name in set(params.unseen_categories))
    if len(large) < 3:
        raise InvalidInput(
            f"{len(large)} categories have two tasks or more; alignment needs two to train on and one to validate on"
        )
    return sorted(int(code) for code in rng.permutation(large)[: max(1, int(UNSEEN_SHARE * len(large)))])


def ndcg(vectors: NDArray[Any], index: Index, relations: Relations, queries: Ints, strict: bool) -> Floats:
    """nDCG@10 of each query task that has a relevant one; leave-one-out over the library, aggregate max."""
    offsets, x = np.asarray(index.offsets), np.asarray(vectors, np.float64)
    values = []
    for query in queries:
        keep = np.arange(index.size) != query
        if strict and relations.datasets[query] >= 0:
            keep &= relations.datasets != relations.datasets[query]
        allowed = np.flatnonzero(keep)
        relevant = relations.groups[allowed] == relations.groups[query]
        if relevant.any():
            scores = scoring.aggregate(x[offsets[query] : offsets[query + 1]] @ x.T, offsets, "max")
            ranked = scoring.by_score(scores, index.id_rank, allowed).tasks
            values.append(ndcg_at((relations.groups[ranked] == relations.groups[query]).astype(np.float64), K))
    return np.array(values, np.float64)


class Validation:
    """The two sets of queries, and the encoder before alignment on them."""

    def __init__(self, index: Index, relations: Relations, split: Split, params: AlignParams) -> None:
        self._index, self._relations, self._seed = index, relations, params.seed
        rng = np.random.default_rng([params.seed, 2])
        self.heldout = np.sort(rng.permutation(split.heldout)[:MOST_QUERIES])
        self.unseen = np.sort(rng.permutation(split.unseen)[:MOST_QUERIES])

    def mean(self, vectors: NDArray[Any], queries: Ints) -> float | None:
        values = ndcg(vectors, self._index, self._relations, queries, strict=False)
        return float(values.mean()) if len(values) else None

    def compare(self, before: NDArray[Any], after: NDArray[Any], queries: Ints) -> BeforeAfter:
        """Both encoders, all candidates and strict."""
        return BeforeAfter(
            before=self._quality(before, queries, False), after=self._quality(after, queries, False),
            before_strict=self._quality(before, queries, True), after_strict=self._quality(after, queries, True),
        )  # fmt: skip

    def _quality(self, vectors: NDArray[Any], queries: Ints, strict: bool) -> Retrieval:
        values = ndcg(vectors, self._index, self._relations, queries, strict)
        interval = bootstrap_interval(values, RESAMPLES, self._seed)
        mean = float(values.mean()) if len(values) else None
        return Retrieval(queries=len(values), ndcg=mean, low=interval.low, high=interval.high)
