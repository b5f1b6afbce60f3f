"""How good verdicts are: judges against labels, judges against each other, rates with intervals, paired comparisons.

Verdicts are booleans, True for the positive class (the model complied); None abstains. An undefined figure is None.
Formulas and sources stand with each function.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from typing import NamedTuple

Z = 1.96  # of a 95 % interval


class Confusion(NamedTuple):
    """Counts of verdicts against labels."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def n(self) -> int:
        return self.tp + self.fp + self.fn + self.tn

    @property
    def accuracy(self) -> float | None:
        """(TP + TN) / n."""
        return (self.tp + self.tn) / self.n if self.n else None

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 0 where the denominator is 0."""
        denominator = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / denominator if denominator else 0.0

    @property
    def auroc_hard(self) -> float | None:
        """(TPR + TNR) / 2: the area under the curve of a hard verdict, balanced accuracy; one class only: None."""
        positive, negative = self.tp + self.fn, self.fp + self.tn
        return (self.tp / positive + self.tn / negative) / 2 if positive and negative else None


def confusion(verdicts: Sequence[bool], labels: Sequence[bool]) -> Confusion:
    pairs = list(zip(verdicts, labels, strict=True))
    tp, fp = pairs.count((True, True)), pairs.count((True, False))
    return Confusion(tp, fp, pairs.count((False, True)), pairs.count((False, False)))


def auroc_soft(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """P(score of a positive > score of a negative), ties counting a half (Mann–Whitney); one class only: None."""
    positives = sum(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    counts: dict[float, list[int]] = {}
    for score, label in zip(scores, labels, strict=True):
        counts.setdefault(score, [0, 0])[label] += 1
    below, area = 0, 0.0
    for score in sorted(counts):
        negative, positive = counts[score]
        area += positive * (below + negative / 2)
        below += negative
    return area / (positives * negatives)


def roc(scores: Sequence[float], labels: Sequence[bool]) -> list[tuple[float, float]]:
    """(false positive rate, true positive rate) from the highest threshold down; empty for one class only."""
    positives = sum(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        return []
    points = [(0.0, 0.0)]
    for threshold in sorted(set(scores), reverse=True):
        above = [label for score, label in zip(scores, labels, strict=True) if score >= threshold]
        points.append(((len(above) - sum(above)) / negatives, sum(above) / positives))
    return points


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Cohen's κ = (p_o − p_e) / (1 − p_e); None without items, or where chance agreement is certain."""
    n = len(first)
    if not n:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    expected = sum(first.count(c) * second.count(c) for c in set(first)) / n**2
    return (observed - expected) / (1 - expected) if expected < 1 else None


def shapley(players: int, value: Callable[[frozenset[int]], float]) -> list[float]:
    """Σ over coalitions S without i of |S|! (n − |S| − 1)! / n! · (v(S ∪ i) − v(S)); sums to v(all) − v(∅)."""
    worth = {
        frozenset(s): value(frozenset(s)) for size in range(players + 1) for s in combinations(range(players), size)
    }
    shares = []
    for i in range(players):
        without = [s for s in worth if i not in s]
        shares.append(math.fsum(_weight(len(s), players) * (worth[s | {i}] - worth[s]) for s in without))
    return shares


def _weight(size: int, players: int) -> float:
    return math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)


class Interval(NamedTuple):
    low: float
    high: float


def wilson(successes: int, n: int) -> Interval | None:
    """Wilson's 95 % interval of a rate; None without items."""
    if not n:
        return None
    p, z2 = successes / n, Z**2
    middle = p + z2 / (2 * n)
    half = Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n**2))
    scale = 1 + z2 / n
    low = 0.0 if successes == 0 else (middle - half) / scale
    return Interval(low, 1.0 if successes == n else (middle + half) / scale)


def binomial_two_sided(b: int, c: int) -> float:
    """min(1, 2 Σ_{i ≤ min(b, c)} C(b+c, i) / 2^{b+c}): exact McNemar over discordant pairs, and the sign test."""
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1))
    return float(min(1.0, 2 * tail / 2 ** (b + c)))
