"""Granting: who gets what when agents ask for more than there is (the paper's environment; official code read).

`grant` is the entry point. Where the stock suffices everyone gets their demand. Otherwise all of the stock is handed
out, by lot (`stochastic`, the paper's) or by share (`proportional`); so a run draws lots at most once, since its
resource is then gone. Arrays are (runs, agents) of whole units.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from workers.govsim.randomness import Draws, Floats, Ints, Purpose

Uniforms = Callable[[Ints, int, int], Floats]
"""(rows, agent, draw) → one number in (0, 1) for each of these rows."""


def grant(demands: Ints, stock: Ints, allocation: str, draws: Draws, runs: Ints, month: int) -> Ints:
    """Grants (runs, agents) for demands (runs, agents) and stock (runs,); `runs` are the runs' numbers in the job."""
    short = np.flatnonzero(demands.sum(axis=1) > stock)
    if not len(short):
        return demands
    purpose = Purpose.LOTTERY if allocation == "stochastic" else Purpose.SHARES
    give = lottery if allocation == "stochastic" else shares

    def uniforms(rows: Ints, agent: int, draw: int) -> Floats:
        return draws.uniform(purpose, runs[short[rows]], month, agent, draw)

    granted = demands.copy()
    granted[short] = give(demands[short], stock[short], uniforms)
    return granted


def lottery(demands: Ints, stock: Ints, uniforms: Uniforms) -> Ints:
    """While units remain, one unit to an agent drawn uniformly among those still below their demand.

    Same law, in batches: throw as many units as are left, each at an agent uniform among those open when the batch
    starts, and take back what an agent gets beyond its demand. A unit that stays is uniform among the agents below
    their demand at that moment, and a batch never hands out more than is left.
    """
    granted = np.zeros_like(demands)
    left = stock.copy()
    draw = 0
    while left.any():
        thrown = multinomial(left, granted < demands, uniforms, draw)
        kept = np.minimum(thrown, demands - granted)
        granted += kept
        left -= kept.sum(axis=1)
        draw += 1
    return granted


def multinomial(trials: Ints, is_open: NDArray[np.bool_], uniforms: Uniforms, draw: int) -> Ints:
    """Counts (runs, agents) of `trials` (runs,) throws, uniform over the open agents: one binomial after another."""
    counts = np.zeros(is_open.shape, dtype=np.int64)
    left, open_left = trials.copy(), is_open.sum(axis=1)
    for agent in range(is_open.shape[1]):
        rows = np.flatnonzero(is_open[:, agent] & (left > 0))
        counts[rows, agent] = left[rows]  # the last open agent takes what is left
        several = rows[open_left[rows] > 1]
        counts[several, agent] = binomial(left[several], 1 / open_left[several], uniforms(several, agent, draw))
        left -= counts[:, agent]
        open_left -= is_open[:, agent]
    return counts


def binomial(trials: Ints, p: Floats, uniform: Floats) -> Ints:
    """Binomial counts by inversion of the distribution function."""
    return np.asarray(binom.ppf(uniform, trials, p), dtype=np.int64) if len(trials) else trials


def shares(demands: Ints, stock: Ints, uniforms: Uniforms) -> Ints:
    """floor(stock · w_i / Σw) each; the units lost to rounding go one by one to agents that were rounded down.

    The official loop ends after one pass when Σw > stock: every agent with a demand stays below it, and fewer units are
    left than agents were rounded down. A unit falls on agent i with probability ∝ its remaining demand, so an agent may
    be drawn more than once, never beyond its demand.
    """
    total = demands.sum(axis=1)
    granted = stock[:, None] * demands // total[:, None]
    rounded_down = granted * total[:, None] < stock[:, None] * demands
    left = stock - granted.sum(axis=1)
    for draw in range(int(left.max())):
        rows = np.flatnonzero(left > draw)
        weights = np.where(rounded_down[rows], demands[rows] - granted[rows], 0).cumsum(axis=1)
        mark = np.floor(uniforms(rows, 0, draw) * weights[:, -1])
        granted[rows, (weights > mark[:, None]).argmax(axis=1)] += 1
    return np.asarray(granted)
