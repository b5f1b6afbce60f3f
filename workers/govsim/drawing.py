"""How figures are drawn: lines, bands and panels of Plotly JSON."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.govsim.randomness import Floats, Ints

Figure = dict[str, Any]
Trace = dict[str, Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B")
MAX_PANELS = 24  # agents shown; societies may have 100
JUST_BEFORE = 0.98  # how far into a month the stock after the harvest is drawn


@dataclass(frozen=True)
class Grid:
    """Panels in rows of three, each with its own pair of axes."""

    panels: int
    columns: int = 3

    def place(self, trace: Trace, panel: int, in_legend: bool) -> Trace:
        """A trace on one of the panels."""
        axis = "" if panel == 0 else str(panel + 1)
        axes = {"xaxis": f"x{axis}", "yaxis": f"y{axis}"}
        return {**trace, **axes, "legendgroup": trace["name"], "showlegend": in_legend}

    def layout(self, titles: list[str]) -> dict[str, Any]:
        """The panels' axes and titles."""
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


def figure(traces: list[Trace], title: str, x: str, y: str, **layout: Any) -> Figure:
    """Traces over one pair of axes."""
    yaxis = {"title": {"text": y}, **layout.pop("yaxis", {})}
    frame = {"title": {"text": title}, "xaxis": {"title": {"text": x}}, "yaxis": yaxis, "template": "none"}
    return {"data": traces, "layout": {**frame, **layout}}


def line(x: Ints | Floats, y: Floats, name: str, number: int, shape: str = "linear", mode: str = "lines") -> Trace:
    """One curve."""
    style = {"color": colour(number), "shape": shape}
    return {"type": "scatter", "mode": mode, "name": name, "x": x.tolist(), "y": plain(y), "line": style}


def band(x: Ints | Floats, low: Floats, high: Floats, number: int, shape: str = "linear") -> list[Trace]:
    """Two invisible lines with the space between them filled."""
    edge = {"type": "scatter", "mode": "lines", "x": x.tolist(), "line": {"width": 0, "shape": shape}}
    hidden = {"hoverinfo": "skip", "showlegend": False}
    fill = {"fill": "tonexty", "fillcolor": colour(number) + "33"}
    return [{**edge, **hidden, "y": plain(low)}, {**edge, **hidden, **fill, "y": plain(high)}]


def colour(number: int) -> str:
    """Of the curve of that number."""
    return COLOURS[number % len(COLOURS)]


def plain(values: Floats) -> list[float | None]:
    """As JSON; NaN is null."""
    return [None if np.isnan(value) else float(value) for value in values]
