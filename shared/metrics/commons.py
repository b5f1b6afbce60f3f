"""Metrics of commons societies (GOVSIM, arXiv 2404.16698, and what its code and figures show), vectorised over runs.

Symbols: R_i units agent i was granted over a run, n agents, T planned months, C collapse bound, f(t) the group's
sustainability threshold, thr the threshold per agent. Arrays are (runs, months) or (runs, months, agents); months after
a collapse hold zeros. Undefined values are NaN here and null in results.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def sustainability_threshold(stock: Ints, growth: int = 2) -> Ints:
    """f(t) = max{x : g·(R − x) ≥ R} = R − ceil(R/g): what the group may take so that the stock is back next month."""
    return stock - -(-stock // growth)


def threshold_per_agent(stock: Ints, agents: int | Ints, growth: int = 2) -> Ints:
    """thr = floor(f(t)/n); for g = 2 floor(floor(R/2)/n)."""
    return sustainability_threshold(stock, growth) // agents


def survival_time(after: Ints, collapse_below: int, months: int) -> Ints:
    """m (runs,): the first month, from 1, whose stock after the harvest is below C; T if there is none.

    The official code's test; the paper writes max{t : h(t) > C}. `after` is (runs, months).
    """
    below = after < collapse_below
    return np.where(below.any(axis=1), below.argmax(axis=1) + 1, months)


def survived(after: Ints, collapse_below: int) -> Bools:
    """(runs,): never below C. A run emptied in its last month has m = T and yet did not survive."""
    return np.asarray(~(after < collapse_below).any(axis=1))


def gain(gains: Ints) -> Floats:
    """Mean over agents of R_i; `gains` is (runs, agents)."""
    return np.asarray(gains.mean(axis=1))


def efficiency(gains: Ints, months: int, first_threshold: Ints | int) -> Floats:
    """u = 1 − max(0, T·f(0) − ΣR_i) / (T·f(0)), so at most 1; NaN where T·f(0) is 0."""
    total = gains.sum(axis=1)
    best = months * np.broadcast_to(first_threshold, total.shape)
    return 1 - _ratio(np.maximum(0, best - total), best)


def gini(amounts: Ints) -> Floats:
    """Population Gini over the last axis: Σ(2i − n − 1)·x_(i) / (n·Σx); NaN where nothing was taken."""
    n = amounts.shape[-1]
    ranked = np.sort(amounts, axis=-1)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return _ratio((ranked * weights).sum(axis=-1), n * amounts.sum(axis=-1))


def equality(gains: Ints) -> Floats:
    """e = 1 − Σ_iΣ_j|R_i − R_j| / (2n·ΣR_i) = 1 − Gini; from 1/n (one takes all) to 1."""
    return 1 - gini(gains)


def over_usage(over: Ints, actions: Ints) -> Floats:
    """o: harvest actions above thr / harvest actions. Counts actual actions, so a varying n is right."""
    return _ratio(over, actions)


def over_usage_published(over: Ints, actions: Ints, utterances: Ints) -> Floats:
    """The same numerator over harvest actions plus agents' utterances.

    The published figures are of this form: "29.01 ± 0.88" is mean and population std of {4/14 ×4, 4/13} (5 harvests and
    9 or 8 utterances). Conditions with and without communication have different denominators in it: don't compare them.
    """
    return _ratio(over, actions + utterances)


class Summary(NamedTuple):
    """One metric over the runs in which it is defined."""

    mean: float | None
    std: float | None  # sample, divides by runs − 1
    std_population: float | None
    ci95: float | None  # half-width of the t-interval


def summarise(values: Floats) -> Summary:
    """Mean, both standard deviations and the half-width t(.975; k − 1)·s/√k of the k defined values.

    One value: sample std and interval are undefined. None: everything is. Equal values have no spread at all, not the
    last bits of a sum.
    """
    defined = values[~np.isnan(values)]
    k = len(defined)
    if k == 0:
        return Summary(None, None, None, None)
    if k == 1:
        return Summary(float(defined[0]), None, 0.0, None)
    if (defined == defined[0]).all():
        return Summary(float(defined[0]), 0.0, 0.0, 0.0)
    mean, population = float(defined.mean()), float(defined.std())
    sample = float(defined.std(ddof=1))
    return Summary(mean, sample, population, float(stats.t.ppf(0.975, k - 1)) * sample / k**0.5)


class SurvivalCurve(NamedTuple):
    """S(t) and its band at t = 0, 1, …, T months."""

    share: Floats
    low: Floats
    high: Floats


def kaplan_meier(times: Ints, died: Bools, months: int, level: float = 0.68) -> SurvivalCurve:
    """S(t) = Π_{u≤t}(1 − d_u/n_u); band by Greenwood's variance of log(−log S) (exponential Greenwood).

    `times` (runs,) in months; a run that didn't die is censored at its time.
    """
    steps = np.arange(1, months + 1)
    at_risk = (times[None, :] >= steps[:, None]).sum(axis=1)
    deaths = ((times[None, :] == steps[:, None]) & died[None, :]).sum(axis=1)
    share = np.cumprod(1 - _ratio(deaths, at_risk, undefined=0.0)).astype(np.float64)
    greenwood = np.cumsum(_ratio(deaths, at_risk * (at_risk - deaths), undefined=0.0)).astype(np.float64)
    low, high = _log_log_band(share, greenwood, float(stats.norm.ppf(0.5 + level / 2)))
    return SurvivalCurve(*(np.concatenate([[1.0], curve]) for curve in (share, low, high)))


def share_collapsed(times: Ints, died: Bools, months: int) -> Floats:
    """Share of runs collapsed by month 1..T."""
    steps = np.arange(1, months + 1)
    return np.asarray(((times[None, :] <= steps[:, None]) & died[None, :]).mean(axis=1))


def _log_log_band(share: Floats, greenwood: Floats, z: float) -> tuple[Floats, Floats]:
    """S^exp(±z·√V), V = greenwood / log²S; where S is 0 or 1 the band is the curve."""
    low, high = share.copy(), share.copy()
    inside = (share > 0) & (share < 1)
    width = z * np.sqrt(greenwood[inside]) / -np.log(share[inside])
    low[inside], high[inside] = share[inside] ** np.exp(width), share[inside] ** np.exp(-width)
    return low, high


def _ratio(part: Ints, whole: Ints, undefined: float = np.nan) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), undefined), where=np.asarray(whole) != 0))
