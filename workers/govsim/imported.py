"""Finished runs read from a log or from our own `runs.jsonl`, in one form."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workers.govsim.trajectories import Conditions, Trajectories


@dataclass(frozen=True)
class ImportedRun:
    """One finished run. Rows of a month hold the agents present."""

    name: str
    group: str
    conditions: Conditions
    condition: dict[str, Any]  # as `records.describe` states it
    pool: list[list[int]]  # [before, after] per month
    demanded: list[list[int]]
    granted: list[list[int]]
    utterances: list[int]  # agents' own, per month
    limit: list[int | None]  # agreed units per person, per month
    invalid: bool = False  # its source says that it enters no mean
    source: str | None = None  # the reference of what holds it; None: the job itself
    log: list[dict[str, Any]] | None = field(default=None, repr=False)  # the source's records, where it has them


@dataclass(frozen=True)
class Interrupted:
    """A run that stopped before its time."""

    name: str
    reason: str


def stack(runs: list[ImportedRun]) -> Trajectories:
    """Runs of the same conditions as one batch."""
    conditions = runs[0].conditions
    batch = Trajectories.empty(np.arange(len(runs)), conditions.months, len(conditions.names))
    for row, run in enumerate(runs):
        played = len(run.pool)
        batch.played[row] = played
        batch.before[row, :played], batch.after[row, :played] = np.array(run.pool, dtype=np.int64).T
        batch.utterances[row, :played] = run.utterances
        batch.limit[row, :played] = [-1 if limit is None else limit for limit in run.limit]
        for month, (wanted, grants) in enumerate(zip(run.demanded, run.granted, strict=True)):
            batch.demanded[row, month, : len(wanted)] = wanted
            batch.granted[row, month, : len(grants)] = grants
    rule = conditions.threshold_rule
    for month in range(conditions.months):
        batch.threshold[:, month] = rule.per_agent(batch.before[:, month], month)
    return batch
