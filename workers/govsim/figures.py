"""The figures readers of the paper expect, as Plotly JSON: each function takes the conditions to compare.

`figures` is the entry point: artifact name → figure. Curves are means over runs; a run that ended counts as an empty
stock from then on, so a curve of survivors can't pass for the society's. Each point's `customdata` names the runs
behind it and the prompts they came of (module `links`).
"""

from dataclasses import dataclass

import numpy as np

from shared.metrics.commons import kaplan_meier, share_collapsed
from workers.govsim.drawing import JUST_BEFORE, MAX_PANELS, Figure, Grid, Trace, band, colour, figure, line
from workers.govsim.links import (
    Link,
    RunLinks,
    collapse_link,
    harvest_link,
    last_harvest_link,
    limit_link,
    over_usage_link,
)
from workers.govsim.randomness import Floats, Ints
from workers.govsim.tally import GINI_STEP, Tally

BAND = "68 %"


@dataclass(frozen=True)
class Condition:
    """One curve, bar or panel line."""

    name: str
    tally: Tally
    communication: bool
    capacity: int
    links: tuple[RunLinks, ...] = ()  # of its first runs

    @property
    def months(self) -> Ints:
        return np.arange(1, self.tally.conditions.months + 1)

    def harvests(self, points_a_month: int = 1, agent: int | None = None) -> list[Link]:
        """The links of a curve on harvests."""
        months = np.repeat(self.months, points_a_month).tolist()
        return [harvest_link(self.name, self.links, month, agent) for month in months]

    def collapses(self, first: int) -> list[Link]:
        """The links of a curve on collapses, from a month on."""
        return [collapse_link(self.name, self.links, month) for month in range(first, len(self.months) + 1)]

    def agreements(self) -> list[Link]:
        """The links of a curve on agreed limits."""
        return [limit_link(self.name, self.links, month) for month in self.months.tolist()]


def figures(conditions: list[Condition]) -> dict[str, Figure]:
    """Every figure of these conditions, by artifact name."""
    drawn = {
        "stock": stock_over_months,
        "survival": survival_curve,
        "collapsed": collapsed_by_month,
        "survival_time": mean_survival_time,
        "harvest": harvest_by_agent,
        "gini": gini_by_month,
        "over_usage": over_usage_bars,
    }
    return {f"{name}.plotly.json": draw(conditions) for name, draw in drawn.items()}


def stock_over_months(conditions: list[Condition]) -> Figure:
    """Mean stock, two points a month: before the harvest at t, after it just before t + 1; band ± a standard error."""
    traces: list[Trace] = []
    for number, condition in enumerate(conditions):
        sums, runs = condition.tally.sums, condition.tally.runs
        x = np.stack([condition.months, condition.months + JUST_BEFORE], axis=1).ravel()
        mean = _interleave(sums.before, sums.after) / runs
        error = _standard_error(mean, _interleave(sums.before_squared, sums.after_squared), runs)
        traces += band(x, mean - error, mean + error, number)
        traces.append(line(x, mean, condition.name, number) | {"customdata": condition.harvests(2)})
    top = max(condition.capacity for condition in conditions)
    title = f"Stock before and after each harvest, mean over runs with {BAND} band"
    return figure(traces, title, "month", "stock, units", yaxis={"range": [0, top * 1.02]})


def survival_curve(conditions: list[Condition]) -> Figure:
    """Kaplan–Meier share of runs whose resource lasts; dead means below the collapse bound."""
    traces: list[Trace] = []
    for number, condition in enumerate(conditions):
        measured = condition.tally.metrics
        curve = kaplan_meier(measured.survival_time, ~measured.survived, condition.tally.conditions.months)
        x = np.arange(len(curve.share))
        traces += band(x, curve.low, curve.high, number, shape="hv")
        traces.append(line(x, curve.share, condition.name, number, shape="hv") | {"customdata": condition.collapses(0)})
    title = f"Survival of the resource (Kaplan–Meier, {BAND} band)"
    return figure(traces, title, "month", "share of runs", yaxis={"range": [0, 1.02]})


def collapsed_by_month(conditions: list[Condition]) -> Figure:
    """Share of runs collapsed by month 1..T."""
    traces = []
    for number, condition in enumerate(conditions):
        measured = condition.tally.metrics
        share = share_collapsed(measured.survival_time, ~measured.survived, condition.tally.conditions.months)
        curve = line(condition.months, share, condition.name, number, mode="lines+markers")
        traces.append(curve | {"customdata": condition.collapses(1)})
    return figure(traces, "Share of runs collapsed by month", "month", "share of runs", yaxis={"range": [0, 1.02]})


def mean_survival_time(conditions: list[Condition]) -> Figure:
    """Mean survival time with its 95 % t-interval."""
    summaries = [condition.tally.summaries()["survival_time"] for condition in conditions]
    bar = {
        "type": "bar",
        "x": [condition.name for condition in conditions],
        "y": [summary.mean for summary in summaries],
        "customdata": [last_harvest_link(condition.name, condition.links) for condition in conditions],
        "error_y": {"type": "data", "array": [summary.ci95 for summary in summaries], "visible": True},
        "marker": {"color": [colour(number) for number in range(len(conditions))]},
    }
    return figure([bar], "Mean survival time, 95 % interval", "", "months", showlegend=False)


def harvest_by_agent(conditions: list[Condition]) -> Figure:
    """Mean grant per month, one panel per agent, and one panel for the agreed limit (−1: none)."""
    agents = min(MAX_PANELS, max(len(condition.tally.conditions.names) for condition in conditions))
    grid = Grid(agents + 1)
    traces: list[Trace] = []
    for number, condition in enumerate(conditions):
        sums = condition.tally.sums
        for agent in range(min(agents, len(condition.tally.conditions.names))):
            mean = _divide(sums.granted[:, agent], sums.harvests[:, agent])
            curve = line(condition.months, mean, condition.name, number)
            curve["customdata"] = condition.harvests(agent=agent)
            traces.append(grid.place(curve, agent, agent == 0))
        limit = _divide(sums.limit, sums.discussed)
        curve = line(condition.months, limit, condition.name, number) | {"customdata": condition.agreements()}
        traces.append(grid.place(curve, agents, False))
    longest = max((condition.tally.conditions.names for condition in conditions), key=len)
    layout = grid.layout([*longest[:agents], "agreed limit"])
    return {"data": traces, "layout": {"title": {"text": "Units granted per month, by agent"}, **layout}}


def gini_by_month(conditions: list[Condition]) -> Figure:
    """Mean Gini coefficient of each month's grants, shown to two decimals."""
    traces = []
    for number, condition in enumerate(conditions):
        sums = condition.tally.sums
        mean = np.round(_divide(sums.gini, sums.gini_runs) / GINI_STEP, 2)
        curve = line(condition.months, mean, condition.name, number, mode="lines+markers")
        traces.append(curve | {"customdata": condition.harvests()})
    return figure(traces, "Gini of each month's harvest", "month", "Gini", yaxis={"range": [0, 1]})


def over_usage_bars(conditions: list[Condition]) -> Figure:
    """Over-usage in both countings, conditions with communication and without side by side."""
    labels = [
        f"{condition.name} ({'with' if condition.communication else 'without'} communication)"
        for condition in conditions
    ]
    countings = {
        "over_usage": "of harvest actions",
        "over_usage_published": "of harvest actions and utterances (as published)",
    }
    bars = []
    for number, (metric, counting) in enumerate(countings.items()):
        summaries = [condition.tally.summaries()[metric] for condition in conditions]
        bars.append({
            "type": "bar",
            "name": counting,
            "x": labels,
            "y": [summary.mean for summary in summaries],
            "customdata": [over_usage_link(condition.name, condition.links) for condition in conditions],
            "error_y": {"type": "data", "array": [summary.ci95 for summary in summaries], "visible": True},
            "marker": {"color": colour(number)},
        })  # fmt: skip
    return figure(bars, "Over-usage: grants above the sustainability threshold", "", "share", barmode="group")


def _interleave(first: Ints, second: Ints) -> Ints:
    return np.stack([first, second], axis=1).ravel()


def _standard_error(mean: Floats, squares: Ints, runs: int) -> Floats:
    """Of a mean over runs, from sums; none is drawn for one run."""
    if runs < 2:
        return np.zeros_like(mean)
    variance = np.maximum(0, squares / runs - mean**2) * runs / (runs - 1)
    return np.sqrt(variance / runs)


def _divide(total: Ints, count: Ints) -> Floats:
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean
