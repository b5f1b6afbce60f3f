"""The commons: a stock that is harvested, may collapse, and grows.

Symbols: R stock, K capacity, g growth, C collapse bound, n agents, f(t) the group's sustainability threshold,
thr the threshold per agent. Stocks are whole units.
"""

from dataclasses import dataclass

import numpy as np

from shared.jobs.catalog.govsim import SimulateParams
from shared.metrics.commons import threshold_per_agent
from workers.govsim.randomness import Ints

OFFICIAL_FIRST_THRESHOLD = 10  # the official state starts with this literal, whatever n is


@dataclass(frozen=True)
class Commons:
    """The rules of one resource."""

    capacity: int  # K
    start: int  # R(0)
    growth: int  # g
    collapse_below: int  # C

    def has_collapsed(self, after: Ints) -> Ints:
        """Whether the stock is lost. Tested after the harvest and before growth; exactly C left is alive."""
        return np.asarray(after < self.collapse_below)

    def grow(self, after: Ints) -> Ints:
        """R ← min(K, g·R): multiplied first, capped second."""
        return np.minimum(self.capacity, self.growth * after)


@dataclass(frozen=True)
class Membership:
    """Who is there in which month: everyone, or all but the last agent until the newcomer joins."""

    agents: int  # n, newcomer included
    newcomer_month: int | None  # 0-based

    def present(self, month: int) -> int:
        """Agents present in a month (0-based); they are the first so many."""
        return self.agents - (self.newcomer_month is not None and month < self.newcomer_month)

    def joined(self, agent: int) -> int:
        """The month (0-based) of an agent's first harvest."""
        return self.newcomer_month or 0 if agent == self.agents - 1 else 0


@dataclass(frozen=True)
class ThresholdRule:
    """Whom the sustainability threshold is shared among."""

    membership: Membership
    growth: int
    official: bool

    def per_agent(self, stock: Ints, month: int) -> Ints:
        """thr = floor(f(t)/n). `official` keeps two oddities of the official code: 10 at first, then the starting n."""
        if not self.official:
            return threshold_per_agent(stock, self.membership.present(month), self.growth)
        if month == 0:
            return np.full_like(stock, OFFICIAL_FIRST_THRESHOLD)
        return threshold_per_agent(stock, self.membership.present(0), self.growth)


def commons_of(params: SimulateParams) -> Commons:
    """The resource of a condition."""
    return Commons(params.capacity, params.start, params.growth, params.collapse_below)


def membership_of(params: SimulateParams) -> Membership:
    """Who is there when, under a condition."""
    return Membership(params.agents, params.newcomer_month if params.joins_late else None)


def threshold_rule_of(params: SimulateParams) -> ThresholdRule:
    """How a condition computes thr."""
    return ThresholdRule(membership_of(params), params.growth, params.threshold_agents == "official")
