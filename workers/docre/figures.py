"""Figures as Plotly JSON, drawn by the console or any Plotly."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from workers.docre.decoding import thinned
from workers.docre.projection import STATUSES
from workers.docre.quality import CHARACTER_RATIO, WORD_RATIO

Figure = dict[str, Any]
COLOURS = {
    "contiguous": "#009e73", "gap": "#56b4e9", "split": "#e69f00", "recovered_by_align": "#cc79a7", "lost": "#d55e00"
}  # fmt: skip
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LENGTH_STEP = 10  # tokens


def figure(traces: list[dict[str, Any]], title: str, x: str, y: str, **layout: Any) -> Figure:
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    return {"data": traces, "layout": {"title": {"text": title}, **axes, "template": "none", **layout}}


def line(x: Sequence[Any], y: Sequence[Any], name: str, number: int = 0, mode: str = "lines") -> dict[str, Any]:
    colour = PALETTE[number % len(PALETTE)]
    return {"type": "scatter", "mode": mode, "name": name, "x": list(x), "y": list(y), "line": {"color": colour}}


def bars(counts: Mapping[str, float], name: str = "") -> dict[str, Any]:
    return {"type": "bar", "name": name, "x": list(counts), "y": list(counts.values())}


def transfer_figures(records: Sequence[dict[str, Any]]) -> dict[str, Figure]:
    """Mention status by type, recovery by length, length ratios, relations lost."""
    counts = [record["counts"] for record in records]
    return {
        "mention_status.plotly.json": _status_by_type(counts),
        "recovery_by_length.plotly.json": _recovery(counts),
        "length_ratio.plotly.json": _ratios(counts),
        "relations_lost.plotly.json": _lost(counts),
    }


def _status_by_type(counts: Sequence[dict[str, Any]]) -> Figure:
    types = sorted({name for count in counts for name in count["status_by_type"]})
    traces = []
    for status in STATUSES:
        heights = [sum(count["status_by_type"].get(name, {}).get(status, 0) for count in counts) for name in types]
        traces.append({"type": "bar", "name": status, "x": types, "y": heights, "marker": {"color": COLOURS[status]}})
    return figure(traces, "Mentions by how they were found", "entity type", "mentions", barmode="stack")


def _recovery(counts: Sequence[dict[str, Any]]) -> Figure:
    found: Counter[int] = Counter()
    total: Counter[int] = Counter()
    for count in counts:
        for length, recovered, mentions in count["by_length"]:
            found[length // LENGTH_STEP * LENGTH_STEP] += recovered
            total[length // LENGTH_STEP * LENGTH_STEP] += mentions
    bins = sorted(length for length in total if total[length])
    shares = [found[length] / total[length] for length in bins]
    return figure(
        [line(bins, shares, "recovered", mode="lines+markers")], "Recovery by source length", "tokens", "share"
    )


def _ratios(counts: Sequence[dict[str, Any]]) -> Figure:
    ratios = [ratio for count in counts for ratio in count["ratios"] if ratio is not None]
    limits = [
        {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": {"dash": "dot"}}
        for at in {*WORD_RATIO, *CHARACTER_RATIO}
    ]
    limits.sort(key=lambda limit: float(str(limit["x0"])))
    title = "Target over source length (dotted: limits, in words 0.4 and 2.5, in characters 0.15 and 1.5)"
    return figure([{"type": "histogram", "x": ratios, "nbinsx": 60}], title, "ratio", "sentences", shapes=limits)


def _lost(counts: Sequence[dict[str, Any]]) -> Figure:
    lost: Counter[str] = Counter()
    for count in counts:
        lost.update(count["lost_labels"])
    return figure([bars(dict(lost.most_common()))], "Relations lost", "relation", "labels")


def shard_timeline(spans: Sequence[Sequence[float]]) -> Figure:
    """When each shard was under way, in seconds since the first began; `spans`: (shard, begun, ended)."""
    first = min((begun for _, begun, _ in spans), default=0.0)
    bar = {
        "type": "bar", "orientation": "h", "y": [f"shard {int(index)}" for index, _, _ in spans],
        "base": [round(begun - first, 3) for _, begun, _ in spans],
        "x": [round(ended - begun, 3) for _, begun, ended in spans],
    }  # fmt: skip
    return figure([bar], "Shards under way", "seconds", "", barmode="overlay")


def training_figures(
    losses: Sequence[float],
    dev_f1: Sequence[float],
    points: Sequence[Any],
    th: Any,
    table: Sequence[Mapping[str, float]],
) -> dict[str, Figure]:
    """Loss and dev F1 by epoch, precision–recall over the margin with TH, reliability."""
    epochs = list(range(1, len(losses) + 1))
    right = {"overlaying": "y", "side": "right", "title": {"text": "dev F1"}, "range": [0, 1]}
    f1 = {**line(epochs, dev_f1, "dev F1 at TH", 1, "lines+markers"), "yaxis": "y2"}
    thin = thinned(points)
    marks = [line([th.r], [th.p], "TH", 1, "markers")] if th else []
    diagonal = {**line([0, 1], [0, 1], "perfect", 6), "line": {"dash": "dot", "color": "#000000"}}
    bins = line([row["p"] for row in table], [row["true"] for row in table], "isotonic on dev", 0, "lines+markers")
    return {
        "training.plotly.json": figure([line(epochs, losses, "loss"), f1], "Training", "epoch", "loss", yaxis2=right),
        "precision_recall.plotly.json": figure(
            [line([p.r for p in thin], [p.p for p in thin], "margin"), *marks],
            "Precision and recall over the margin",
            "recall",
            "precision",
        ),
        "reliability.plotly.json": figure(
            [bins, diagonal], "Reliability of the probabilities", "predicted", "observed"
        ),
    }


def recommendation_figures(
    thresholds: Sequence[float], expected: Sequence[float], chosen: float, scratch: float | None
) -> dict[str, Figure]:
    """Expected steps against the threshold, with the line of annotating from nothing."""
    traces = [line(thresholds, expected, "expected steps")]
    if scratch is not None:
        traces.append(line([0, 1], [scratch, scratch], "from scratch", 1))
    mark = {"type": "line", "x0": chosen, "x1": chosen, "y0": 0, "y1": 1, "yref": "paper", "line": {"dash": "dot"}}
    title = "Expected edit steps per document (dotted: the threshold in use)"
    return {
        "expected_steps.plotly.json": figure(traces, title, "p above which a relation is shown", "steps", shapes=[mark])
    }


def evaluation_figures(cells: Sequence[Any], gaps: Sequence[Any]) -> dict[str, Figure]:
    """The cross-lingual table of F1, precision and recall by cell, and what transfer misses more."""
    names = [f"{cell.trained_on} → {cell.tested_on}" for cell in cells]
    measures = ("p", "r", "f1")
    traces = [bars(dict(zip(names, (getattr(c.relation, m) for c in cells), strict=True)), m) for m in measures]
    rows, columns = ([*dict.fromkeys(getattr(c, side) for c in cells)] for side in ("trained_on", "tested_on"))
    table = {(c.trained_on, c.tested_on): c.relation.f1 for c in cells}
    heat = {"type": "heatmap", "x": columns, "y": rows, "z": [[table.get((r, c)) for c in columns] for r in rows]}
    figures = {
        "scores.plotly.json": figure(traces, "Precision, recall, F1", "", "share", barmode="group"),
        "cross_lingual.plotly.json": figure([heat], "F1: trained on (rows), tested on (columns)", "tested on", ""),
    }
    if gaps:
        missed = {f.relation: f.missed_transferred - f.missed_native for f in gaps[0].false_negatives}
        figures["gap.plotly.json"] = figure([bars(missed)], "Missed more after transfer", "relation", "labels")
    return figures
