"""The same figures run by run, where a point is one run's: every curve leads to its exact prompts."""

from collections.abc import Iterator, Sequence

import numpy as np

from workers.govsim.drawing import JUST_BEFORE, MAX_PANELS, Figure, Grid, Trace, colour, figure
from workers.govsim.links import RunLinks, harvest_link, limit_link
from workers.govsim.randomness import Floats


def stock_of_runs(group: str, runs: Sequence[RunLinks]) -> Figure:
    """Stock of each run, two points a month."""
    traces: list[Trace] = []
    for number, links in enumerate(runs):
        months = np.arange(1, links.played + 1)
        x = np.stack([months, months + JUST_BEFORE], axis=1).ravel()
        points = [harvest_link(group, [links], month) for month in months.tolist() for _ in range(2)]
        traces.append(_trace(x, np.array(links.run.pool).ravel(), links, number, points))
    top = max(links.run.pool[0][0] for links in runs)
    title = "Stock before and after each harvest, run by run"
    return figure(traces, title, "month", "stock, units", yaxis={"range": [0, top * 1.02]})


def harvest_of_runs(group: str, runs: Sequence[RunLinks]) -> Figure:
    """Each run's grants, one panel per agent, and its agreed limit (−1: none)."""
    names = max((links.run.conditions.names for links in runs), key=len)[:MAX_PANELS]
    grid = Grid(len(names) + 1)
    traces: list[Trace] = []
    for number, links in enumerate(runs):
        for agent in range(len(names)):
            traces.append(grid.place(_grants(group, links, agent, number), agent, agent == 0))
        traces.append(grid.place(_limits(group, links, number), len(names), False))
    layout = grid.layout([*names, "agreed limit"])
    return {"data": traces, "layout": {"title": {"text": "Units granted per month, run by run"}, **layout}}


def _grants(group: str, links: RunLinks, agent: int, number: int) -> Trace:
    months = [month for month, granted in enumerate(links.run.granted, start=1) if agent < len(granted)]
    y = np.array([links.run.granted[month - 1][agent] for month in months], dtype=np.float64)
    points = [harvest_link(group, [links], month, agent) for month in months]
    return _trace(np.array(months, dtype=np.float64), y, links, number, points)


def _limits(group: str, links: RunLinks, number: int) -> Trace:
    limits = [-1 if limit is None else limit for limit in links.run.limit]
    points = [limit_link(group, [links], month) for month in range(1, links.played + 1)]
    return _trace(np.arange(1.0, links.played + 1), np.array(limits), links, number, points)


def _trace(x: Floats, y: Floats, links: RunLinks, number: int, points: list[dict[str, object]]) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": f"run {links.run.name}",
        "x": x.tolist(),
        "y": y.tolist(),
        "customdata": points,
        "line": {"color": colour(number)},
    }


def of_runs(group: str, runs: Sequence[RunLinks]) -> Iterator[tuple[str, Figure]]:
    """Both figures, by artifact name."""
    if runs:
        yield "runs_stock.plotly.json", stock_of_runs(group, runs)
        yield "runs_harvest.plotly.json", harvest_of_runs(group, runs)
