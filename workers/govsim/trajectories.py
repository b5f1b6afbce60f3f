"""What happened in a batch of runs, and the paper's metrics of each of them.

`Trajectories` is the one form that simulated and imported runs share; `measure` turns it into metrics per run.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from shared.metrics import commons as metrics
from workers.govsim.commons import Membership, ThresholdRule
from workers.govsim.randomness import Floats, Ints

Bools = metrics.Bools


@dataclass(frozen=True)
class Conditions:
    """What one must know of runs beside their numbers to measure them."""

    names: tuple[str, ...]  # of all agents, a newcomer last
    months: int  # T
    growth: int  # g
    collapse_below: int  # C
    newcomer_month: int | None = None  # 0-based
    official_threshold: bool = False

    @property
    def membership(self) -> Membership:
        """Who is there when."""
        return Membership(len(self.names), self.newcomer_month)

    @property
    def threshold_rule(self) -> ThresholdRule:
        """How thr is computed."""
        return ThresholdRule(self.membership, self.growth, self.official_threshold)


@dataclass(frozen=True)
class Trajectories:
    """Runs of one society. Months that weren't played hold zeros."""

    runs: Ints  # (runs,), numbers in the job
    played: Ints  # (runs,), months
    before: Ints  # (runs, T), stock
    after: Ints  # (runs, T), stock
    demanded: Ints  # (runs, T, agents), w
    granted: Ints  # (runs, T, agents)
    threshold: Ints  # (runs, T), thr
    utterances: Ints  # (runs, T), agents' own, without the report
    limit: Ints  # (runs, T), agreed units per person; −1: none

    @property
    def is_played(self) -> Bools:
        """(runs, T)."""
        return np.arange(self.before.shape[1]) < self.played[:, None]

    def of(self, rows: Ints) -> "Trajectories":
        """The same of some of the runs."""
        return Trajectories(*(getattr(self, part.name)[rows] for part in fields(self)))

    @classmethod
    def empty(cls, runs: Ints, months: int, agents: int) -> "Trajectories":
        """All zeros, to be filled month by month."""
        shape = (len(runs), months)
        flat = [np.zeros(shape, dtype=np.int64) for _ in range(4)]
        cubes = [np.zeros((*shape, agents), dtype=np.int64) for _ in range(2)]
        played = np.zeros(len(runs), dtype=np.int64)
        return cls(runs, played, flat[0], flat[1], cubes[0], cubes[1], flat[2], flat[3], np.full(shape, -1))


class RunMetrics(NamedTuple):
    """(runs,) each; NaN where undefined."""

    survival_time: Ints
    survived: Bools
    gain: Floats
    efficiency: Floats
    equality: Floats
    over_usage: Floats
    over_usage_demanded: Floats
    over_usage_published: Floats


def measure(batch: Trajectories, conditions: Conditions) -> RunMetrics:
    """The metrics of each run.

    With a newcomer, gain, efficiency and equality count the months from its arrival on, T included; runs that ended
    earlier have gain 0 and neither efficiency nor equality.
    """
    first = conditions.newcomer_month or 0
    gains = batch.granted[:, first:].sum(axis=1)
    best_share = metrics.sustainability_threshold(batch.before[:, 0], conditions.growth)
    efficiency = metrics.efficiency(gains, conditions.months - first, best_share)
    over, over_demanded, actions = count_actions(batch, conditions)
    # A month nobody played leaves no stock: only played months can end below C.
    after = np.where(batch.is_played, batch.after, np.iinfo(np.int64).max)
    return RunMetrics(
        survival_time=metrics.survival_time(after, conditions.collapse_below, conditions.months),
        survived=metrics.survived(after, conditions.collapse_below),
        gain=metrics.gain(gains),
        efficiency=np.where(batch.played > first, efficiency, np.nan),
        equality=metrics.equality(gains),
        over_usage=metrics.over_usage(over, actions),
        over_usage_demanded=metrics.over_usage(over_demanded, actions),
        over_usage_published=metrics.over_usage_published(over, actions, batch.utterances.sum(axis=1)),
    )


class Actions(NamedTuple):
    """Counts of harvest actions (runs,)."""

    over: Ints  # grant > thr
    over_demanded: Ints  # demand > thr
    all: Ints


def count_actions(batch: Trajectories, conditions: Conditions) -> Actions:
    """Harvest actions of the agents present. Absent agents and unplayed months hold zeros, which exceed no thr."""
    thr = batch.threshold[:, :, None]
    present = np.array([conditions.membership.present(month) for month in range(batch.before.shape[1])])
    actions = np.concatenate([[0], present.cumsum()])[batch.played]
    return Actions((batch.granted > thr).sum(axis=(1, 2)), (batch.demanded > thr).sum(axis=(1, 2)), actions)


def monthly_gini(batch: Trajectories, conditions: Conditions) -> Floats:
    """(runs, T): Gini of each month's grants among the agents present; NaN where nothing was taken."""
    first = conditions.newcomer_month or 0
    locals_only = metrics.gini(batch.granted[:, :first, :-1]) if first else np.empty((len(batch.runs), 0))
    return np.concatenate([locals_only, metrics.gini(batch.granted[:, first:])], axis=1)
