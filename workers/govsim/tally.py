"""What figures and means need of any number of runs, in bounded memory: a few numbers per run and sums per month.

Adding runs in other portions or another batch size gives the same bits: per-run values are kept in order, and sums per
month are sums of whole numbers (Gini coefficients in steps of 10⁻⁹).
"""

import io
from dataclasses import dataclass, field, fields

import numpy as np

from shared.metrics.commons import Summary, summarise
from workers.govsim.randomness import Floats, Ints
from workers.govsim.trajectories import Conditions, RunMetrics, Trajectories, measure, monthly_gini

GINI_STEP = 1e9


@dataclass
class MonthSums:
    """Sums over runs, per month. Runs that ended count as an empty stock: the resource is lost for ever."""

    before: Ints
    before_squared: Ints
    after: Ints
    after_squared: Ints
    gini: Ints  # in steps of 10⁻⁹
    gini_runs: Ints
    granted: Ints  # (T, agents)
    harvests: Ints  # (T, agents): runs in which the agent harvested
    limit: Ints  # −1 where none was agreed
    discussed: Ints  # runs that played the month

    @classmethod
    def zeros(cls, months: int, agents: int) -> "MonthSums":
        by_agent = {"granted", "harvests"}
        return cls(**{
            part.name: np.zeros((months, agents) if part.name in by_agent else months, dtype=np.int64)
            for part in fields(cls)
        })  # fmt: skip


@dataclass
class Tally:
    """One condition's runs, added batch by batch."""

    conditions: Conditions
    sums: MonthSums = field(init=False)
    _portions: list[RunMetrics] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sums = MonthSums.zeros(self.conditions.months, len(self.conditions.names))

    def add(self, batch: Trajectories, measured: RunMetrics | None = None) -> None:
        """Add runs; `measured` are their metrics if they are known already."""
        self._portions.append(measured or measure(batch, self.conditions))
        s, played = self.sums, batch.is_played
        s.before += batch.before.sum(axis=0)
        s.before_squared += (batch.before**2).sum(axis=0)
        s.after += batch.after.sum(axis=0)
        s.after_squared += (batch.after**2).sum(axis=0)
        s.granted += batch.granted.sum(axis=0)
        s.harvests += played.sum(axis=0)[:, None] * self._is_present()
        s.limit += np.where(played, batch.limit, 0).sum(axis=0)
        s.discussed += played.sum(axis=0)
        self._add_gini(monthly_gini(batch, self.conditions))

    def _add_gini(self, gini: Floats) -> None:
        defined = ~np.isnan(gini)
        steps = np.rint(np.where(defined, gini, 0) * GINI_STEP).astype(np.int64)
        self.sums.gini += steps.sum(axis=0)
        self.sums.gini_runs += defined.sum(axis=0)

    def _is_present(self) -> Ints:
        """(T, agents)."""
        membership = self.conditions.membership
        joined = np.array([membership.joined(agent) for agent in range(len(self.conditions.names))])
        return (np.arange(self.conditions.months)[:, None] >= joined).astype(np.int64)

    @property
    def runs(self) -> int:
        """How many were added."""
        return sum(len(portion.survived) for portion in self._portions)

    @property
    def metrics(self) -> RunMetrics:
        """Of all runs, in the order they were added."""
        if not self._portions:
            return RunMetrics(*(np.empty(0) for _ in RunMetrics._fields))  # type: ignore[arg-type]
        if len(self._portions) > 1:
            self._portions = [RunMetrics(*(np.concatenate(columns) for columns in zip(*self._portions, strict=True)))]
        return self._portions[0]

    def summaries(self) -> dict[str, Summary]:
        """Mean, deviations and interval of each metric, by its name in the result."""
        named = self.metrics._asdict()
        named["survival_rate"] = named.pop("survived")
        return {name: summarise(np.asarray(values, dtype=np.float64)) for name, values in named.items()}

    def to_bytes(self) -> bytes:
        """For a checkpoint."""
        arrays = {f"run_{name}": values for name, values in self.metrics._asdict().items()} if self._portions else {}
        arrays |= {f"month_{part.name}": getattr(self.sums, part.name) for part in fields(MonthSums)}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, conditions: Conditions) -> "Tally":
        """Back from a checkpoint."""
        tally = cls(conditions)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            tally.sums = MonthSums(*(arrays[f"month_{part.name}"] for part in fields(MonthSums)))
            if "run_gain" in arrays:
                tally._portions = [RunMetrics(*(arrays[f"run_{name}"] for name in RunMetrics._fields))]
        return tally
