"""The figures of INSTA's kinds, as Plotly JSON: each function draws one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.jobs.catalog.insta import MethodFigures
from workers.insta.index import Index
from workers.insta.selection import Selection
from workers.insta.targets import Target

Figure = dict[str, Any]
Trace = dict[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#666666")
OTHER = "#BBBBBB"
MAP_TASKS = 3_000  # points drawn of a larger library
SHOWN = 40  # tasks of a heat map, categories of a bar


def query_figures(index: Index, target: Target, selection: Selection) -> dict[str, Figure]:
    """Every figure of one query, by artifact name; those that need scores are left out where there are none."""
    drawn = {"categories": category_bars(selection), "map": library_map(index, target, selection)}
    if selection.selected:
        drawn["similarity"] = similarity_map(target, selection)
    if selection.scored.ranking.scores is not None:
        drawn["scores"] = score_curve(selection)
    return {f"{name}.plotly.json": figure for name, figure in sorted(drawn.items())}


def similarity_map(target: Target, selection: Selection) -> Figure:
    """Cosine of each selected task's nearest instruction to each of the target's instructions."""
    shown = selection.selected[:SHOWN]
    trace = {
        "type": "heatmap", "z": [task.per_query_scores for task in shown], "colorscale": "Viridis",
        "x": [f"instruction {i}" for i in range(1, len(target.instructions) + 1)],
        "y": [task.task_id for task in shown], "colorbar": {"title": {"text": "cosine"}},
    }  # fmt: skip
    layout = {"yaxis": {"autorange": "reversed", "automargin": True, "title": {"text": "task"}}}
    title = "Nearest instruction of each selected task"
    if len(selection.selected) > SHOWN:
        title = f"Nearest instruction of the first {SHOWN} of {len(selection.selected)} selected tasks"
    return _figure([trace], title, "the target's instructions", "task", **layout)


def score_curve(selection: Selection) -> Figure:
    """Score over rank, with the cut after k."""
    scores = selection.scored.ranking.scores
    assert scores is not None
    drawn = scores[: selection.k + 50]
    line = _line(list(range(1, len(drawn) + 1)), drawn.tolist(), "score", 0, mode="lines+markers")
    cut = {"type": "line", "x0": selection.k + 0.5, "x1": selection.k + 0.5, "yref": "paper", "y0": 0, "y1": 1,
           "line": {"dash": "dash", "color": COLOURS[1]}}  # fmt: skip
    note = {"x": selection.k + 0.5, "y": 1, "yref": "paper", "text": f"k = {selection.k}", "showarrow": False,
            "xanchor": "left"}  # fmt: skip
    return _figure([line], "Score over rank", "rank", "score", shapes=[cut], annotations=[note])


def category_bars(selection: Selection) -> Figure:
    """Share of each category in the selection."""
    shares = selection.categories[:SHOWN]
    bar = {
        "type": "bar", "orientation": "h", "x": [share.share for share in shares],
        "y": [share.category or "no category" for share in shares], "marker": {"color": COLOURS[0]},
    }  # fmt: skip
    layout = {"yaxis": {"autorange": "reversed", "automargin": True}}
    return _figure([bar], "Categories of the selection", "share of selected tasks", "", **layout)


def library_map(index: Index, target: Target, selection: Selection) -> Figure:
    """The library on its first two principal axes by category, the selection ringed, the target a star.

    All of it by the vectors before any head, in which the index keeps its axes.
    """
    tasks, axes, mean = index.position()
    drawn = np.unique(np.linspace(0, index.size - 1, min(index.size, MAP_TASKS)).astype(np.int64))
    chosen = np.asarray(selection.scored.ranking.tasks[: len(selection.selected)], np.int64)
    star = (selection.vectors.astype(np.float64).mean(axis=0) - mean) @ axes.T
    traces = [*_categories(index, tasks, drawn), _points(tasks[chosen], "selected", "#000000", "circle-open", 11)]
    traces[-1]["text"] = [task.task_id for task in selection.selected]
    traces.append({**_points(star[None], target.id, "#D55E00", "star", 16)})
    title = "Tasks by the first two principal axes of their instructions"
    return _figure(traces, title, "first axis", "second axis", hovermode="closest")


def _categories(index: Index, tasks: Any, drawn: Any) -> list[Trace]:
    """One trace for each of the largest categories, one for the rest."""
    codes, names = np.asarray(index.codes("category"))[drawn], index.column_values["category"]
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    largest = sorted(range(len(names)), key=lambda code: (-sizes[code], names[code]))[: len(COLOURS) - 1]
    rest = ~np.isin(codes, largest)
    traces = [_points(tasks[drawn[rest]], "other", OTHER, "circle", 4)] if rest.any() else []
    return traces + [
        _points(tasks[drawn[codes == code]], names[code], COLOURS[number], "circle", 5)
        for number, code in enumerate(largest)
    ]


def _points(at: Any, name: str, colour: str, symbol: str, size: int) -> Trace:
    places = np.round(np.asarray(at, np.float64), 4)
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": places[:, 0].tolist(), "y": places[:, 1].tolist(),
        "marker": {"color": colour, "symbol": symbol, "size": size},
    }  # fmt: skip


def precision_curves(figures: Sequence[MethodFigures], ks: Sequence[int]) -> Figure:
    """precision@k of every method, all candidates solid and strict dotted, with 95 % intervals."""
    methods = list(dict.fromkeys(each.method for each in figures))
    traces = []
    for each in figures:
        points = [each.metrics[f"precision@{k}"] for k in sorted(ks)]
        mean = [point.micro for point in points]
        line = _line(sorted(ks), mean, each.method + (" strict" if each.strict else ""), methods.index(each.method))
        line["line"]["dash"] = "dot" if each.strict else "solid"
        ends = [(p.micro or 0, p.low if p.low is not None else 0, p.high if p.high is not None else 0) for p in points]
        line["error_y"] = {"type": "data", "array": [high - middle for middle, _, high in ends],
                           "arrayminus": [middle - low for middle, low, _ in ends]}  # fmt: skip
        traces.append({**line, "mode": "lines+markers"})
    return _figure(traces, "Precision over k, 95 % interval over queries", "k", "precision@k", xaxis={"type": "log"})


def alignment_curves(losses: Sequence[float], seen: Mapping[int, float], unseen: Mapping[int, float]) -> Figure:
    """Loss by step, and nDCG@10 of held-out and unseen tasks (right axis)."""
    traces = [_line(list(range(1, len(losses) + 1)), list(losses), "loss", 0)]
    for number, (name, points) in enumerate((("held-out tasks", seen), ("unseen categories", unseen)), start=1):
        line = _line(list(points), list(points.values()), f"nDCG@10, {name}", number, mode="lines+markers")
        traces.append({**line, "yaxis": "y2"})
    right = {"overlaying": "y", "side": "right", "title": {"text": "nDCG@10"}, "range": [0, 1]}
    return _figure(traces, "Alignment", "step", "loss", yaxis2=right)


def accuracy_bars(arms: Mapping[str, Sequence[float]]) -> Figure:
    """Accuracy of every arm, one point per target and seed."""
    traces = [
        {"type": "box", "name": arm, "y": list(values), "boxpoints": "all", "marker": {"color": COLOURS[number]}}
        for number, (arm, values) in enumerate(arms.items())
    ]
    return _figure(traces, "Exact matches after adaptation", "", "accuracy", showlegend=False)


def _figure(traces: list[Trace], title: str, x: str, y: str, **layout: Any) -> Figure:
    xaxis = {"title": {"text": x}, **layout.pop("xaxis", {})}
    yaxis = {"title": {"text": y}, **layout.pop("yaxis", {})}
    frame = {"title": {"text": title}, "xaxis": xaxis, "yaxis": yaxis, "template": "none"}
    return {"data": traces, "layout": {**frame, **layout}}


def _line(x: Sequence[int], y: Sequence[float | None], name: str, number: int, mode: str = "lines") -> Trace:
    line = {"color": COLOURS[number % len(COLOURS)]}
    return {"type": "scatter", "mode": mode, "name": name, "x": list(x), "y": list(y), "line": line}
