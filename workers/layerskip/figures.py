"""The figures of LayerSkip's kinds, as Plotly JSON: each function draws one."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.jobs.catalog.layerskip import ExitFigures

Figure = dict[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#666666")


def perplexity_by_exit(arms: Mapping[str, Sequence[ExitFigures]]) -> Figure:
    """Perplexity over exit layers, log scale (figure 6 of the paper)."""
    traces = [
        line(
            [each.exit_layer for each in figures], [each.perplexity for each in figures], name, number, "lines+markers"
        )
        for number, (name, figures) in enumerate(arms.items())
    ]
    return figure(traces, "Perplexity after E layers", "exit layer E", "perplexity", yaxis={"type": "log"})


def agreement_by_exit(figures: Sequence[ExitFigures]) -> Figure:
    """Agreement and overlap with the last layer."""
    layers = [each.exit_layer for each in figures]
    traces = [
        line(layers, [each.agreement for each in figures], "same likeliest token", 0, "lines+markers"),
        line(layers, [each.overlap for each in figures], "Σ min(p, q)", 1, "lines+markers"),
    ]
    return figure(traces, "Agreement with the last layer", "exit layer E", "share", yaxis={"range": [0, 1]})


def schedule(
    dropout: Sequence[Sequence[float]], weights: Sequence[Mapping[int, float]], steps: Sequence[int]
) -> Figure:
    """Dropout of every layer over steps (left), and the weights of exits (right)."""
    layers = len(dropout[0])
    rates = {
        "type": "heatmap", "z": [[round(row[layer], 6) for row in dropout] for layer in range(layers)],
        "x": list(steps), "y": list(range(layers)), "colorscale": "Viridis",
        "colorbar": {"title": {"text": "p"}, "x": 0.45},
    }  # fmt: skip
    shares = {
        "type": "heatmap", "z": [[round(row.get(layer, 0.0), 6) for row in weights] for layer in range(layers)],
        "x": list(steps), "y": list(range(layers)), "colorscale": "Cividis", "xaxis": "x2", "yaxis": "y2",
        "colorbar": {"title": {"text": "ẽ"}},
    }  # fmt: skip
    layout = {
        "xaxis": {"domain": [0, 0.42]}, "xaxis2": {"domain": [0.56, 1], "anchor": "y2", "title": {"text": "step"}},
        "yaxis2": {"anchor": "x2"},
    }  # fmt: skip
    return figure([rates, shares], "Layer dropout and exit weights", "step", "layer l", **layout)


def held_out_curves(looks: Sequence[Sequence[float | None]]) -> Figure:
    """Held-out loss of every exit over steps."""
    steps = [look[0] for look in looks]
    traces = [
        line(steps, [look[number] for look in looks], f"E = {number}", number - 1, "lines+markers")
        for number in range(1, len(looks[0]))
    ]
    return figure(traces, "Held-out loss by exit", "step", "nats per token")


def figure(traces: list[dict[str, Any]], title: str, x: str, y: str, **layout: Any) -> Figure:
    """A figure with titled axes."""
    xaxis = {"title": {"text": x}, **layout.pop("xaxis", {})}
    yaxis = {"title": {"text": y}, **layout.pop("yaxis", {})}
    frame = {"title": {"text": title}, "xaxis": xaxis, "yaxis": yaxis, "template": "none"}
    return {"data": traces, "layout": {**frame, **layout}}


def line(x: Sequence[Any], y: Sequence[float | None], name: str, number: int, mode: str = "lines") -> dict[str, Any]:
    """One curve."""
    style = {"color": COLOURS[number % len(COLOURS)]}
    return {"type": "scatter", "mode": mode, "name": name, "x": list(x), "y": list(y), "line": style}


def speedup_map(cells: Mapping[tuple[int, int], float], title: str) -> Figure:
    """Speed-up over exit layer and draft length."""
    exits, drafts = sorted({E for E, _ in cells}), sorted({K for _, K in cells})
    trace = {
        "type": "heatmap", "x": exits, "y": drafts, "colorscale": "RdBu", "zmid": 1, "reversescale": True,
        "z": [[cells.get((E, K)) for E in exits] for K in drafts], "colorbar": {"title": {"text": "× plain"}},
    }  # fmt: skip
    return figure([trace], title, "exit layer E", "drafts K")


def predicted_against_measured(points: Sequence[tuple[str, float, float]]) -> Figure:
    """(name, predicted, measured) against the diagonal."""
    dots = {
        "type": "scatter", "mode": "markers+text", "x": [x for _, x, _ in points], "y": [y for *_, y in points],
        "text": [name for name, *_ in points], "textposition": "top center", "marker": {"color": COLOURS[0]},
        "name": "confirmed",
    }  # fmt: skip
    most = max([1.0, *(max(x, y) for _, x, y in points)])
    return figure([dots, line([0, most], [0, most], "as predicted", 7)], "Speed-up", "predicted", "measured")


def costs_curve(c: Mapping[int, float], c_head: Mapping[int, float]) -> Figure:
    """c(n) and c_h(n)."""
    traces = [
        line(list(c), list(c.values()), "c(n), a layer", 0, "lines+markers"),
        line(list(c_head), list(c_head.values()), "c_h(n), the head", 1, "lines+markers"),
    ]
    return figure(traces, "Cost of a pass of n tokens", "n", "one token = 1")


def accepted_lengths(steps: Sequence[tuple[int, int]]) -> Figure:
    """How many drafts stood per step, and the acceptance by position; steps are (accepted, drafted)."""
    most = max((drafted for _, drafted in steps), default=0)
    counts = [sum(accepted == length for accepted, _ in steps) for length in range(most + 1)]
    bars = {"type": "bar", "name": "steps", "x": list(range(most + 1)), "y": counts, "marker": {"color": COLOURS[5]}}
    rates = []
    for place in range(1, most + 1):
        reached = [accepted >= place for accepted, drafted in steps if drafted >= place and accepted >= place - 1]
        rates.append(sum(reached) / len(reached) if reached else None)
    curve = {**line(list(range(1, most + 1)), rates, "accepted, if it was reached", 1, "lines+markers"), "yaxis": "y2"}
    right = {"overlaying": "y", "side": "right", "range": [0, 1], "title": {"text": "acceptance by position"}}
    return figure([bars, curve], "Accepted drafts per step", "drafts that stood; position", "steps", yaxis2=right)


def token_grid(tokens: Sequence[str], said: Sequence[Sequence[str]], agreed: Sequence[Sequence[bool]]) -> Figure:
    """What every exit would say, by position, coloured by agreement with the last layer (figure 2 of the paper)."""
    trace = {
        "type": "heatmap", "z": [[int(one) for one in row] for row in agreed], "text": [list(row) for row in said],
        "texttemplate": "%{text}", "x": list(range(len(tokens))), "y": list(range(1, len(said) + 1)), "zmin": 0,
        "zmax": 1, "colorscale": [[0, "#D55E00"], [1, "#009E73"]], "showscale": False,
    }  # fmt: skip
    return figure([trace], "Tokens by exit layer; green: as the last layer", "position", "exit layer E")


def bars(names: Sequence[str], values: Sequence[float | None], title: str, y: str) -> Figure:
    """One bar each."""
    trace = {"type": "bar", "x": list(names), "y": list(values), "marker": {"color": COLOURS[0]}}
    return figure([trace], title, "", y)
