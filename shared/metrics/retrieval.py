"""Retrieval metrics as pure functions of one query's relevance list, and what is said over many queries.

`relevance` is (n,) of 0 and 1 in the order of the ranking over all candidates; R = its sum. A query with R = 0 has no
value: callers skip and count it.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


def precision_at(relevance: NDArray[Any], k: int) -> float:
    """(Σ_{i≤k} rel_i)/k: the denominator is k even where R < k."""
    return float(relevance[:k].sum() / k)


def recall_at(relevance: NDArray[Any], k: int) -> float:
    """Σ_{i≤k} rel_i / R."""
    return float(relevance[:k].sum() / relevance.sum())


def capped_recall_at(relevance: NDArray[Any], k: int) -> float:
    """Σ_{i≤k} rel_i / min(R, k): 1 is possible at every k. Called R@k."""
    return float(relevance[:k].sum() / min(int(relevance.sum()), k))


def ndcg_at(relevance: NDArray[Any], k: int) -> float:
    """Σ_{i≤k} rel_i/log2(i + 1) over its largest value, Σ_{i≤min(R,k)} 1/log2(i + 1)."""
    discount = 1 / np.log2(np.arange(2, len(relevance) + 2))
    best = discount[: min(int(relevance.sum()), k)].sum()
    return float((relevance[:k] * discount[:k]).sum() / best)


def reciprocal_rank(relevance: NDArray[Any]) -> float:
    """1/(first relevant place), 0 if there is none."""
    found = np.flatnonzero(relevance)
    return float(1 / (found[0] + 1)) if len(found) else 0.0


def average_precision(relevance: NDArray[Any]) -> float:
    """(1/R)·Σ_i rel_i · precision@i over the whole ranking."""
    places = np.flatnonzero(relevance) + 1
    return float((np.arange(1, len(places) + 1) / places).sum() / relevance.sum())


def r_precision(relevance: NDArray[Any]) -> float:
    """precision@R."""
    return precision_at(relevance, int(relevance.sum()))


def all_metrics(relevance: NDArray[Any], ks: Sequence[int]) -> dict[str, float]:
    """Every metric of one query by name."""
    cut: dict[str, Callable[[NDArray[Any], int], float]] = {
        "precision": precision_at, "recall": recall_at, "capped_recall": capped_recall_at, "ndcg": ndcg_at,
    }  # fmt: skip
    values = {f"{name}@{k}": metric(relevance, k) for name, metric in cut.items() for k in ks}
    whole = {"mrr": reciprocal_rank, "map": average_precision, "r_precision": r_precision}
    return values | {name: metric(relevance) for name, metric in whole.items()}


def overlap_at(first: Sequence[Hashable], second: Sequence[Hashable], k: int) -> float:
    """|A ∩ B|/k of two selections' first k."""
    return len(set(first[:k]) & set(second[:k])) / k


def macro_mean(values: Floats, groups: Sequence[Hashable | None]) -> float | None:
    """Mean over groups of the group's mean; None counts in no group."""
    members: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        if group is not None:
            members.setdefault(group, []).append(float(value))
    return float(np.mean([np.mean(group) for group in members.values()])) if members else None


class Interval(NamedTuple):
    """A 95 % interval; None where it is undefined."""

    low: float | None
    high: float | None


def bootstrap_interval(values: Floats, resamples: int, seed: int) -> Interval:
    """Percentile interval of the mean over queries drawn with replacement."""
    if len(values) == 0:
        return Interval(None, None)
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high))


class SignTest(NamedTuple):
    """A paired comparison: ties say nothing."""

    better: int
    worse: int
    p: float


def sign_test(values: Floats, against: Floats) -> SignTest:
    """Two-sided binomial test that a query is as likely better as worse."""
    better, worse = int((values > against).sum()), int((values < against).sum())
    p = float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0
    return SignTest(better, worse, p)


def pearson(values: Floats, labels: Floats) -> float | None:
    """Population correlation; None where a side is constant."""
    x, y = values - values.mean(), labels - labels.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / scale) if scale > 0 else None
