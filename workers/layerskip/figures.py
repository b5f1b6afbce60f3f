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
