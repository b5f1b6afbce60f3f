"""A society on its commons: the months of a batch of runs, side by side.

Per month: harvest (all demands first, then the grants; or one agent after another), discussion, collapse test, growth.
`simulate_runs` is the entry point; the agents themselves live on hosts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shared.jobs.catalog.govsim import SimulateParams
from workers.govsim.commons import commons_of, membership_of, threshold_rule_of
from workers.govsim.granting import grant
from workers.govsim.hosts import HarvestCall, HostPool
from workers.govsim.randomness import Draws, Ints, Purpose
from workers.govsim.talk import Talk, talk_of
from workers.govsim.trajectories import Conditions, Trajectories


@dataclass
class Month:
    """The runs that play a month, by their rows in the batch."""

    month: int  # 0-based
    rows: Ints  # (alive,)
    runs: Ints  # (alive,), numbers in the job
    stock: Ints  # (alive,), R
    threshold: Ints  # (alive,), thr
    kept: Ints | None  # positions among last month's rows
    granted_before: Ints | None  # (alive, present last month)


class Harvest:
    """How demands become grants."""

    def __init__(self, params: SimulateParams, hosts: HostPool) -> None:
        self._hosts = hosts
        self._membership = membership_of(params)
        self._sequential = params.order == "sequential"
        self._allocation = params.allocation
        self._draws = Draws(params.seed)

    def take(self, now: Month) -> tuple[Ints, Ints]:
        """(demanded, granted) of a month, each (alive, present)."""
        return self._one_after_another(now) if self._sequential else self._all_at_once(now)

    def _all_at_once(self, now: Month) -> tuple[Ints, Ints]:
        call = HarvestCall(now.month, now.stock, now.threshold, now.kept, now.granted_before)
        wanted = self._hosts.harvest(call)
        return wanted, grant(wanted, now.stock, self._allocation, self._draws, now.runs, now.month)

    def _one_after_another(self, now: Month) -> tuple[Ints, Ints]:
        """Agent k of a drawn order sees what k − 1 left and is granted min(w, left) at once; thr stays the month's."""
        order = self._drawn_order(now)
        left = now.stock.copy()
        wanted, granted = np.zeros_like(order), np.zeros_like(order)
        everyone = np.arange(len(left))
        for turn, actors in enumerate(order.T):
            news = (now.kept, now.granted_before) if turn == 0 else (None, None)
            asked = self._hosts.harvest(HarvestCall(now.month, left, now.threshold, *news, actors))
            wanted[everyone, actors] = asked
            granted[everyone, actors] = np.minimum(asked, left)
            left = left - granted[everyone, actors]
        return wanted, granted

    def _drawn_order(self, now: Month) -> Ints:
        """(alive, present): a uniform permutation per run and month."""
        agents = np.arange(self._membership.present(now.month))
        keys = self._draws.uniform(Purpose.ORDER, now.runs[:, None], now.month, agents[None, :])
        return np.argsort(keys, axis=1, kind="stable")


def simulate_runs(
    params: SimulateParams, runs: Ints, hosts: HostPool, check: Callable[[], None] = lambda: None
) -> Trajectories:
    """Play the runs with these numbers to their end; `check` is called every month and may raise to stop."""
    commons, rule, talk = commons_of(params), threshold_rule_of(params), talk_of(params)
    harvest = Harvest(params, hosts)
    batch = Trajectories.empty(runs, params.months, params.agents)
    hosts.open(runs)
    rows, kept, granted = np.arange(len(runs)), None, None
    stock = np.full(len(runs), commons.start, dtype=np.int64)
    for month in range(params.months):
        check()
        now = Month(month, rows, runs[rows], stock, rule.per_agent(stock, month), kept, granted)
        wanted, granted = harvest.take(now)
        after = stock - granted.sum(axis=1)
        _record(batch, now, wanted, granted, after, talk)
        kept = np.flatnonzero(~commons.has_collapsed(after))
        rows, granted, stock = rows[kept], granted[kept], commons.grow(after[kept])
        if not len(rows):
            break
    return batch


def _record(batch: Trajectories, now: Month, wanted: Ints, granted: Ints, after: Ints, talk: Talk) -> None:
    """Write one month of the runs that played it, the discussion of a collapsing month included."""
    rows, month, present = now.rows, now.month, granted.shape[1]
    batch.played[rows] = month + 1
    batch.before[rows, month] = now.stock
    batch.after[rows, month] = after
    batch.demanded[rows, month, :present] = wanted
    batch.granted[rows, month, :present] = granted
    batch.threshold[rows, month] = now.threshold
    batch.utterances[rows, month] = talk.speakers(present)
    batch.limit[rows, month] = now.threshold if talk.is_held else -1


def conditions_of(params: SimulateParams) -> Conditions:
    """What measuring needs to know of a condition."""
    return Conditions(
        names=tuple(params.names),
        months=params.months,
        growth=params.growth,
        collapse_below=params.collapse_below,
        newcomer_month=membership_of(params).newcomer_month,
        official_threshold=params.threshold_agents == "official",
    )
