"""Paired comparisons: Wilcoxon's signed-rank test, Holm's correction, intervals and effect size of differences."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

BOOTSTRAP_DRAWS = 10_000

Floats = NDArray[np.float64]


def wilcoxon(differences: Sequence[float] | Floats) -> float:
    """Two-sided p of the signed-rank test; 1 where all differences are zero."""
    values = np.asarray(differences, np.float64)
    if not values.any():
        return 1.0
    return float(stats.wilcoxon(values).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p_(i)·(m − i), never falling."""
    order = sorted(range(len(p)), key=lambda number: p[number])
    corrected, highest = [0.0] * len(p), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, p[number] * (len(p) - place)))
        corrected[number] = highest
    return corrected


def t_interval(values: Sequence[float] | Floats) -> tuple[float | None, float | None]:
    """95 % interval of the mean; undefined for fewer than two."""
    given = np.asarray(values, np.float64)
    if len(given) < 2:
        return None, None
    half = float(stats.t.ppf(0.975, len(given) - 1)) * float(given.std(ddof=1)) / len(given) ** 0.5
    return float(given.mean()) - half, float(given.mean()) + half


def bootstrap_interval(values: Sequence[float] | Floats, rng: np.random.Generator) -> tuple[float, float]:
    """95 % percentile interval of the mean over 10,000 draws."""
    given = np.asarray(values, np.float64)
    means = rng.choice(given, (BOOTSTRAP_DRAWS, len(given))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def effect_size(differences: Sequence[float] | Floats) -> float | None:
    """Mean / sd of paired differences; None where they are all equal."""
    given = np.asarray(differences, np.float64)
    sd = float(given.std(ddof=1)) if len(given) > 1 else 0.0
    return float(given.mean()) / sd if sd > 0 else None
