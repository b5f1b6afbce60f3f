"""From similarities of instructions to an order of tasks: the four aggregates.

S (m, N) holds the similarity of each of the target's m instructions to each of the library's N; rows of task t are
offsets[t] … offsets[t + 1] − 1. `rank` is the entry point.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Aggregate = Literal["max", "mean_of_max", "mean", "vote"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
DECIMALS = 9
"""Scores are compared to this many decimals: equal vectors tie whatever the order of a sum."""

STEP = 1_000
"""A vote weighs so many times what one at the next place does."""


class Ranking(NamedTuple):
    """Tasks from the best on."""

    tasks: Ints  # (T',) numbers
    scores: Floats | None  # (T',) of these tasks; None for vote, which compares counts
    votes: Ints | None = None  # (T', D) counts by place, vote only


def aggregate(similarities: Floats, offsets: Ints, how: Aggregate) -> Floats:
    """(T,) task scores of max, mean_of_max or mean."""
    starts = offsets[:-1]
    if how == "mean":
        sums = np.add.reduceat(similarities, starts, axis=1) / np.diff(offsets)
        return np.asarray(sums.mean(axis=0))
    nearest = np.maximum.reduceat(similarities, starts, axis=1)  # (m, T)
    return np.asarray(nearest.max(axis=0) if how == "max" else nearest.mean(axis=0))


def by_score(scores: Floats, id_rank: Ints, candidates: Ints) -> Ranking:
    """Candidates by falling score; equal scores by the smaller task id."""
    rounded = np.round(scores[candidates], DECIMALS)
    order = np.lexsort((id_rank[candidates], -rounded))
    return Ranking(candidates[order], rounded[order])


def vote(similarities: Floats, offsets: Ints, candidates: Ints, depth: int = 10, weighted: bool = False) -> Ranking:
    """The official P3 selection, over candidates only; tasks that got no vote are not ranked.

    Each of the target's instructions lists the nearest `depth` instructions; a task gets 10^(3(depth − r)) for its
    row at place r. Steps of a thousand compare like the vectors (count at place 0, count at place 1, …), which is how
    it is done here: the sum itself is wrong in floating point. `weighted` multiplies each vote by its cosine, which no
    longer compares like vectors: the sum is taken exactly, with the cosine in units of 1e-9.
    """
    rows = np.concatenate([np.arange(offsets[t], offsets[t + 1]) for t in candidates] or [np.zeros(0, np.int64)])
    task_of = np.repeat(candidates, np.diff(offsets)[candidates])
    rounded = np.round(similarities[:, rows], DECIMALS)
    lists = [np.argsort(-line, kind="stable")[:depth] for line in rounded]
    votes = [(int(task_of[at]), place, float(line[at])) for line, listed in zip(rounded, lists, strict=True)
             for place, at in enumerate(listed)]  # fmt: skip
    return _count(votes, min(depth, len(rows)), weighted)


def _count(votes: Sequence[tuple[int, int, float]], depth: int, weighted: bool) -> Ranking:
    """Votes (task, place, cosine) in the order they were read; equal counts keep the order of first appearance."""
    counts: dict[int, Ints] = {}
    sums: Counter[int] = Counter()  # of whole numbers: 10³⁰ has no exact float
    for task, place, cosine in votes:
        counts.setdefault(task, np.zeros(depth, np.int64))[place] += 1
        sums[task] += round(cosine * 10**DECIMALS) * STEP ** (depth - place)
    first_seen = {task: number for number, task in enumerate(counts)}
    compared = {task: [-sums[task]] if weighted else (-counts[task]).tolist() for task in counts}
    order = sorted(counts, key=lambda task: (compared[task], first_seen[task]))
    return Ranking(np.array(order, np.int64), None, np.array([counts[task] for task in order]).reshape(-1, depth))


def default_k(tasks: int) -> int:
    """5 up to a hundred tasks (5 of 35), else the share 70 of 756."""
    return min(5, tasks) if tasks <= 100 else round(0.0926 * tasks)
