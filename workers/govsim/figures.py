"""The figures readers of the paper expect, as Plotly JSON: each function takes the conditions to compare.

`figures` is the entry point: artifact name → figure. Curves are means over runs; a run that ended counts as an empty
stock from then on, so a curve of survivors can't pass for the society's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.metrics.commons import kaplan_meier, share_collapsed
from workers.govsim.randomness import Floats, Ints
from workers.govsim.tally import GINI_STEP, Tally

Figure = dict[str, Any]
Trace = dict[str, Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B")
MAX_PANELS = 24  # agents shown; societies may have 100
JUST_BEFORE = 0.98  # how far into a month the stock after the harvest is drawn
BAND = "68 %"


@dataclass(frozen=True)
class Condition:
    """One curve, bar or panel line."""

    name: str
    tally: Tally
    communication: bool
    capacity: int

    @property
    def months(self) -> Ints:
        return np.arange(1, self.tally.conditions.months + 1)


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
        traces += _band(x, mean - error, mean + error, number)
        traces.append(_line(x, mean, condition.name, number))
    top = max(condition.capacity for condition in conditions)
    title = f"Stock before and after each harvest, mean over runs with {BAND} band"
    return _figure(traces, title, "month", "stock, units", yaxis={"range": [0, top * 1.02]})


def survival_curve(conditions: list[Condition]) -> Figure:
    """Kaplan–Meier share of runs whose resource lasts; dead means below the collapse bound."""
    traces: list[Trace] = []
    for number, condition in enumerate(conditions):
        measured = condition.tally.metrics
        curve = kaplan_meier(measured.survival_time, ~measured.survived, condition.tally.conditions.months)
        x = np.arange(len(curve.share))
        traces += _band(x, curve.low, curve.high, number, shape="hv")
        traces.append(_line(x, curve.share, condition.name, number, shape="hv"))
    title = f"Survival of the resource (Kaplan–Meier, {BAND} band)"
    return _figure(traces, title, "month", "share of runs", yaxis={"range": [0, 1.02]})


def collapsed_by_month(conditions: list[Condition]) -> Figure:
    """Share of runs collapsed by month 1..T."""
    traces = []
    for number, condition in enumerate(conditions):
        measured = condition.tally.metrics
        share = share_collapsed(measured.survival_time, ~measured.survived, condition.tally.conditions.months)
        traces.append(_line(condition.months, share, condition.name, number, mode="lines+markers"))
    return _figure(traces, "Share of runs collapsed by month", "month", "share of runs", yaxis={"range": [0, 1.02]})


def mean_survival_time(conditions: list[Condition]) -> Figure:
    """Mean survival time with its 95 % t-interval."""
    summaries = [condition.tally.summaries()["survival_time"] for condition in conditions]
    bar = {
        "type": "bar",
        "x": [condition.name for condition in conditions],
        "y": [summary.mean for summary in summaries],
        "error_y": {"type": "data", "array": [summary.ci95 for summary in summaries], "visible": True},
        "marker": {"color": [_colour(number) for number in range(len(conditions))]},
    }
    return _figure([bar], "Mean survival time, 95 % interval", "", "months", showlegend=False)


def harvest_by_agent(conditions: list[Condition]) -> Figure:
    """Mean grant per month, one panel per agent, and one panel for the agreed limit (−1: none)."""
    agents = min(MAX_PANELS, max(len(condition.tally.conditions.names) for condition in conditions))
    grid = _Grid(agents + 1)
    traces: list[Trace] = []
    for number, condition in enumerate(conditions):
        sums = condition.tally.sums
        for agent in range(min(agents, len(condition.tally.conditions.names))):
            mean = _divide(sums.granted[:, agent], sums.harvests[:, agent])
            traces.append(grid.place(_line(condition.months, mean, condition.name, number), agent, agent == 0))
        limit = _divide(sums.limit, sums.discussed)
        traces.append(grid.place(_line(condition.months, limit, condition.name, number), agents, False))
    longest = max((condition.tally.conditions.names for condition in conditions), key=len)
    layout = grid.layout([*longest[:agents], "agreed limit"])
    return {"data": traces, "layout": {"title": {"text": "Units granted per month, by agent"}, **layout}}


def gini_by_month(conditions: list[Condition]) -> Figure:
    """Mean Gini coefficient of each month's grants, shown to two decimals."""
    traces = []
    for number, condition in enumerate(conditions):
        sums = condition.tally.sums
        mean = np.round(_divide(sums.gini, sums.gini_runs) / GINI_STEP, 2)
        traces.append(_line(condition.months, mean, condition.name, number, mode="lines+markers"))
    return _figure(traces, "Gini of each month's harvest", "month", "Gini", yaxis={"range": [0, 1]})


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
            "error_y": {"type": "data", "array": [summary.ci95 for summary in summaries], "visible": True},
            "marker": {"color": _colour(number)},
        })  # fmt: skip
    return _figure(bars, "Over-usage: grants above the sustainability threshold", "", "share", barmode="group")


@dataclass(frozen=True)
class _Grid:
    """Panels in rows of three, each with its own pair of axes."""

    panels: int
    columns: int = 3

    def place(self, trace: Trace, panel: int, in_legend: bool) -> Trace:
        axis = "" if panel == 0 else str(panel + 1)
        axes = {"xaxis": f"x{axis}", "yaxis": f"y{axis}"}
        return {**trace, **axes, "legendgroup": trace["name"], "showlegend": in_legend}

    def layout(self, titles: list[str]) -> dict[str, Any]:
        rows = -(-self.panels // self.columns)
        layout: dict[str, Any] = {"annotations": [], "template": "none", "height": 120 + 220 * rows}
        for panel, title in enumerate(titles):
            row, column = divmod(panel, self.columns)
            x = [(column + 0.08) / self.columns, (column + 0.95) / self.columns]
            y = [1 - (row + 0.85) / rows, 1 - (row + 0.12) / rows]
            axis = "" if panel == 0 else str(panel + 1)
            layout[f"xaxis{axis}"] = {"domain": x, "anchor": f"y{axis}"}
            layout[f"yaxis{axis}"] = {"domain": y, "anchor": f"x{axis}", "rangemode": "tozero"}
            layout["annotations"].append(
                {"text": title, "x": sum(x) / 2, "y": y[1], "xref": "paper", "yref": "paper", "yanchor": "bottom",
                 "showarrow": False}
            )  # fmt: skip
        return layout


def _figure(traces: list[Trace], title: str, x: str, y: str, **layout: Any) -> Figure:
    yaxis = {"title": {"text": y}, **layout.pop("yaxis", {})}
    frame = {"title": {"text": title}, "xaxis": {"title": {"text": x}}, "yaxis": yaxis, "template": "none"}
    return {"data": traces, "layout": {**frame, **layout}}


def _line(x: Ints | Floats, y: Floats, name: str, number: int, shape: str = "linear", mode: str = "lines") -> Trace:
    line = {"color": _colour(number), "shape": shape}
    return {"type": "scatter", "mode": mode, "name": name, "x": x.tolist(), "y": _plain(y), "line": line}


def _band(x: Ints | Floats, low: Floats, high: Floats, number: int, shape: str = "linear") -> list[Trace]:
    """Two invisible lines with the space between them filled."""
    edge = {"type": "scatter", "mode": "lines", "x": x.tolist(), "line": {"width": 0, "shape": shape}}
    hidden = {"hoverinfo": "skip", "showlegend": False}
    fill = {"fill": "tonexty", "fillcolor": _colour(number) + "33"}
    return [{**edge, **hidden, "y": _plain(low)}, {**edge, **hidden, **fill, "y": _plain(high)}]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


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


def _plain(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
