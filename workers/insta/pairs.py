"""The official recipe's training pairs: instructions of one data set are alike, of two are not.

Positives are a random 40 % of each data set's pairs; every instruction gets one negative of another data set whose
cosine under the unaligned encoder is below 0.3 and which was used fewer than four times. `training_pairs` and
`dev_pairs` are the entry points.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_DRAWS = 1_000
"""Per negative; the official loop never ends once all far instructions are used up."""
Ints = NDArray[np.int64]


class Pairs(NamedTuple):
    """Rows u and v of each pair, and whether they are of one data set."""

    u: Ints
    v: Ints
    labels: NDArray[np.float64]
    forced: int = 0  # negatives taken although they were not far enough or used too often


class NegativeRule(NamedTuple):
    """What makes a negative."""

    threshold: float = 0.3
    most_uses: int = 4


def training_pairs(
    groups: Sequence[int], vectors: NDArray[np.float32], rng: np.random.Generator, fraction: float, rule: NegativeRule
) -> Pairs:
    """Positives and one negative per row; `groups` (N,) is each row's data set, `vectors` (N, d) unaligned."""
    rows = np.arange(len(groups))
    positives = [
        pair for group in np.unique(groups) for pair in _positives(rows[np.equal(groups, group)], rng, fraction)
    ]
    negatives, forced = _negatives(np.asarray(groups), vectors, rng, rule)
    return _joined(positives, negatives, forced)


def dev_pairs(groups: Sequence[int], rng: np.random.Generator) -> Pairs:
    """All pairs within a data set, and one random pair across for each row."""
    codes = np.asarray(groups)
    positives = [
        pair for group in np.unique(codes) for pair in combinations(np.flatnonzero(codes == group).tolist(), 2)
    ]
    negatives = [
        (row, int(rng.choice(others)))
        for row in range(len(codes))
        if len(others := np.flatnonzero(codes != codes[row]))
    ]
    return _joined(positives, negatives, 0)


def steps_per_epoch(examples: int, batch: int) -> int:
    """The last batch may be smaller."""
    return -(-examples // batch)


def warm_up_steps(per_epoch: int, share: float = 0.1) -> int:
    """A tenth of an epoch, rounded down, unless another share is asked for."""
    return math.floor(round(share * per_epoch, 9))


def _positives(rows: Ints, rng: np.random.Generator, fraction: float) -> list[tuple[int, int]]:
    """floor(fraction · pairs) of a data set's pairs."""
    pairs = list(combinations(rows.tolist(), 2))
    kept = sorted(rng.permutation(len(pairs))[: math.floor(round(fraction * len(pairs), 9))])
    return [pairs[number] for number in kept]


def _negatives(
    groups: Ints, vectors: NDArray[np.float32], rng: np.random.Generator, rule: NegativeRule
) -> tuple[list[tuple[int, int]], int]:
    uses, negatives, forced = np.zeros(len(groups), np.int64), [], 0
    for row in range(len(groups)):
        others = np.flatnonzero(groups != groups[row])
        if not len(others):
            continue  # a library of one data set has no negatives
        cosines = vectors[others] @ vectors[row]
        chosen, found = _draw(others, cosines, uses, rng, rule)
        uses[chosen] += 1
        forced += not found
        negatives.append((row, chosen))
    return negatives, forced


def _draw(
    others: Ints, cosines: NDArray[np.float32], uses: Ints, rng: np.random.Generator, rule: NegativeRule
) -> tuple[int, bool]:
    """(row, whether the rule allows it): after MOST_DRAWS the farthest that isn't used up, else the farthest."""
    for place in rng.integers(0, len(others), MOST_DRAWS):
        if cosines[place] < rule.threshold and uses[others[place]] < rule.most_uses:
            return int(others[place]), True
    free = uses[others] < rule.most_uses
    farthest = np.where(free, cosines, np.inf) if free.any() else cosines
    return int(others[farthest.argmin()]), False


def _joined(positives: list[tuple[int, int]], negatives: list[tuple[int, int]], forced: int) -> Pairs:
    both = np.array([*positives, *negatives], np.int64).reshape(-1, 2)
    labels = np.concatenate([np.ones(len(positives)), np.zeros(len(negatives))])
    return Pairs(both[:, 0], both[:, 1], labels, forced)
