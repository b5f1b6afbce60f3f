"""Whether alignment helps what it wasn't trained on: held-out tasks, and categories it never saw.

The dev set's Pearson of cosine and label doesn't tell: it rose while the retrieval of related tasks fell, because it
measures "which data set", not "which kind of task". So quality here is nDCG@10 of leave-one-out retrieval.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

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
LEAST_GROUPS = 3  # two to train on, one to validate on
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Tasks by their part in validation."""

    training: Ints
    heldout: Ints
    unseen: Ints
    unseen_names: list[str]


class Units(NamedTuple):
    """What queries and candidates are: tasks, or single instructions."""

    offsets: Ints  # (U + 1,) into the rows
    groups: Ints  # (U,)
    datasets: Ints  # (U,)
    rank: Ints  # (U,): the smaller one wins a tie


@dataclass(frozen=True)
class Relations:
    """Each task's group (what is relevant to it) and data set; −1: none."""

    groups: Ints  # (T,)
    names: list[str]  # of groups
    datasets: Ints  # (T,)
    column: str  # category | dataset | instruction: a data set's other instructions

    @classmethod
    def of(cls, index: Index, recipe: str, are_named: bool) -> "Relations":
        """Categories; without them data sets; for recipe pairs, where these have one task each, their instructions.
        `are_named`: the unseen groups are given, so that few will do. Raises InvalidInput where there is nothing."""
        datasets = np.asarray(index.codes("dataset"), np.int64)
        for column in ("category", "dataset"):
            codes, names = np.asarray(index.codes(column), np.int64), index.column_values[column]
            enough = are_named or recipe == "category" or int((_sizes(codes, len(names)) >= 2).sum()) >= LEAST_GROUPS
            if names and enough:
                return cls(codes, names, datasets, column)
        if recipe == "category":
            raise InvalidInput(
                f"no task of {index.name} has a category or a dataset: recipe category has nothing to align to; give "
                "tasks a category, or use recipe pairs"
            )
        return cls._of_instructions(index, datasets)

    @classmethod
    def _of_instructions(cls, index: Index, datasets: Ints) -> "Relations":
        """A task without data set is one of its own."""
        names = list(index.column_values["dataset"])
        groups = datasets.copy()
        groups[datasets < 0] = len(names) + np.arange(int((datasets < 0).sum()))
        names += [index.task_id(int(number)) for number in np.flatnonzero(datasets < 0)]
        return cls(groups, names, datasets, "instruction")

    @property
    def own_datasets(self) -> Ints:
        """(T,) as `datasets`; a task without one is its own, −1 − t."""
        return np.where(self.datasets >= 0, self.datasets, -1 - np.arange(len(self.datasets)))

    def units(self, index: Index) -> Units:
        """What is retrieved."""
        if self.column != "instruction":
            return Units(np.asarray(index.offsets), self.groups, self.datasets, index.id_rank)
        groups = self.groups[index.task_of_row(np.arange(index.rows))]
        return Units(np.arange(index.rows + 1), groups, groups, np.arange(index.rows))

    def units_of(self, index: Index, tasks: Ints) -> Ints:
        """The units that tasks are, or consist of."""
        if self.column != "instruction":
            return tasks
        return np.flatnonzero(np.isin(index.task_of_row(np.arange(index.rows)), tasks))


def split_tasks(index: Index, relations: Relations, recipe: str, params: AlignParams) -> Split:
    """Unseen groups are named or drawn; of the rest a share of the tasks, or for recipe pairs of the data sets, is held
    out. Raises InvalidInput."""
    rng = np.random.default_rng([params.seed, 1])
    names, groups = relations.names, relations.groups
    unseen = _unseen_codes(relations, relations.units(index).groups, params, rng)
    is_unseen = np.isin(groups, unseen)
    seen = np.flatnonzero(~is_unseen & (groups >= 0))
    if recipe == "pairs":
        heldout = _heldout_datasets(seen, relations.own_datasets[seen], params.heldout_tasks, rng)
    else:
        heldout = rng.permutation(seen)[: int(params.heldout_tasks * len(seen))]
    training = np.setdiff1d(np.flatnonzero(~is_unseen), heldout)
    return Split(training, np.sort(heldout), np.flatnonzero(is_unseen), [names[code] for code in unseen])


def _heldout_datasets(tasks: Ints, datasets: Ints, share: float, rng: np.random.Generator) -> Ints:
    """All tasks of some data sets, of one at least where three or more are there."""
    different = rng.permutation(np.unique(datasets))
    number = int(share * len(different))
    if share and len(different) >= LEAST_GROUPS:
        number = max(1, number)
    return tasks[np.isin(datasets, different[:number])]


def _sizes(groups: Ints, number: int) -> Ints:
    return np.bincount(groups[groups >= 0], minlength=number)


def _unseen_codes(relations: Relations, groups: Ints, params: AlignParams, rng: np.random.Generator) -> list[int]:
    """`groups` (U,) are those of the units."""
    names = relations.names
    large = np.flatnonzero(_sizes(groups, len(names)) >= 2)
    if params.unseen_categories is not None:
        unknown = [name for name in params.unseen_categories if name not in names]
        if unknown:
            raise InvalidInput(f"unseen_categories names {unknown[0]!r}; this index has {', '.join(names[:8])}")
        return sorted(names.index(name) for name in set(params.unseen_categories))
    if len(large) < LEAST_GROUPS:
        what = {"category": "categories have two tasks", "dataset": "data sets have two tasks",
                "instruction": "data sets have two instructions"}[relations.column]  # fmt: skip
        raise InvalidInput(f"{len(large)} {what} or more; alignment needs two to train on and one to validate on")
    return sorted(int(code) for code in rng.permutation(large)[: max(1, int(UNSEEN_SHARE * len(large)))])


def ndcg(vectors: NDArray[Any], units: Units, queries: Ints, strict: bool) -> Floats:
    """nDCG@10 of each query unit that has a relevant one; leave-one-out over the library, aggregate max."""
    offsets, x = units.offsets, np.asarray(vectors, np.float64)
    values = []
    for query in queries:
        keep = np.arange(len(units.groups)) != query
        if strict and units.datasets[query] >= 0:
            keep &= units.datasets != units.datasets[query]
        allowed = np.flatnonzero(keep)
        relevant = units.groups[allowed] == units.groups[query]
        if relevant.any():
            scores = scoring.aggregate(x[offsets[query] : offsets[query + 1]] @ x.T, offsets, "max")
            ranked = scoring.by_score(scores, units.rank, allowed).tasks
            values.append(ndcg_at((units.groups[ranked] == units.groups[query]).astype(np.float64), K))
    return np.array(values, np.float64)


class Validation:
    """The two sets of queries, and the encoder before alignment on them."""

    def __init__(self, index: Index, relations: Relations, split: Split, params: AlignParams) -> None:
        self._units, self._seed = relations.units(index), params.seed
        rng = np.random.default_rng([params.seed, 2])
        self.heldout, self.unseen = (
            np.sort(rng.permutation(relations.units_of(index, tasks))[:MOST_QUERIES])
            for tasks in (split.heldout, split.unseen)
        )

    def mean(self, vectors: NDArray[Any], queries: Ints) -> float | None:
        values = ndcg(vectors, self._units, queries, strict=False)
        return float(values.mean()) if len(values) else None

    def compare(self, before: NDArray[Any], after: NDArray[Any], queries: Ints) -> BeforeAfter:
        """Both encoders, all candidates and strict."""
        return BeforeAfter(
            before=self._quality(before, queries, False), after=self._quality(after, queries, False),
            before_strict=self._quality(before, queries, True), after_strict=self._quality(after, queries, True),
        )  # fmt: skip

    def _quality(self, vectors: NDArray[Any], queries: Ints, strict: bool) -> Retrieval:
        values = ndcg(vectors, self._units, queries, strict)
        interval = bootstrap_interval(values, RESAMPLES, self._seed)
        mean = float(values.mean()) if len(values) else None
        return Retrieval(queries=len(values), ndcg=mean, low=interval.low, high=interval.high)
