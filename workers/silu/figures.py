"""The figures of SiLU's kinds, as Plotly JSON: each function draws one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from shared.jobs.catalog.silu import Cell, Cost, Robustness, SwigluRow
from shared.metrics.paired import t_interval
from shared.models.silu import silu, silu_derivative, silu_second_derivative
from workers.silu.conclusions import Conclusions
from workers.silu.facts import INFLECTION, LEAST_CURVATURE_AT, W

Figure = dict[str, Any]
Trace = dict[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#666666")


def curves(beta: float, points: int) -> Figure:
    """f, f′ and f″ with their extrema marked."""
    x = torch.linspace(-6, 6, points, dtype=torch.float64) / beta
    traces, marked = [], {"f": [-(1 + W)], "f′": [-INFLECTION, INFLECTION],
                          "f″": [-LEAST_CURVATURE_AT, 0.0, LEAST_CURVATURE_AT]}  # fmt: skip
    for number, (name, function) in enumerate((("f", silu), ("f′", silu_derivative), ("f″", silu_second_derivative))):
        traces.append(_line(_rounded(x), _rounded(function(x, beta)), name, number))
        at = torch.tensor(marked[name], dtype=torch.float64) / beta
        places = _line(_rounded(at), _rounded(function(at, beta)), f"extrema of {name}", number, "markers")
        traces.append({**places, "marker": {"size": 9, "color": COLOURS[number]}})
    return _figure(traces, f"SiLU and its derivatives, β = {beta:g}", "x", "")


def _rounded(x: torch.Tensor) -> list[float]:
    return [round(value, 9) for value in x.tolist()]


def validation_loss(conclusions: Conclusions, dataset: int) -> Figure:
    """Mean validation loss over epochs with its 95 % band."""
    traces = []
    for number, activation in enumerate(conclusions.params.activations):
        losses = np.array(conclusions.best(dataset, activation).val_loss)
        epochs = list(range(1, losses.shape[1] + 1))
        spans = [t_interval(losses[:, epoch]) for epoch in range(losses.shape[1])]
        traces.append(_line(epochs, losses.mean(axis=0).tolist(), activation, number))
        low, high = [span[0] for span in spans], [span[1] for span in spans]
        band = _line(epochs + epochs[::-1], high + low[::-1], f"{activation}, 95 %", number)
        traces.append({**band, "fill": "toself", "opacity": 0.2, "line": {"width": 0}, "showlegend": False,
                       "fillcolor": COLOURS[number]})  # fmt: skip
    title = f"Validation loss on {conclusions.names[dataset]}, each at its own learning rate"
    return _figure(traces, title, "epoch", "cross-entropy, nats", yaxis={"type": "log"})


def noise(rows: Sequence[Robustness], cells: Sequence[Cell]) -> Figure:
    """Test accuracy over noise, with 95 % intervals."""
    traces = []
    for number, (dataset, activation) in enumerate(dict.fromkeys((row.dataset, row.activation) for row in rows)):
        own = [row for row in rows if (row.dataset, row.activation) == (dataset, activation)]
        clean = next(cell for cell in cells if (cell.dataset, cell.activation) == (dataset, activation))
        means = [clean.accuracy, *(row.accuracy for row in own)]
        line = _line([0, *(row.sigma for row in own)], [each.mean for each in means], f"{dataset}, {activation}",
                     number, "lines+markers")  # fmt: skip
        line["error_y"] = {"type": "data", "array": [(each.high or each.mean) - each.mean for each in means]}
        traces.append(line)
    return _figure(traces, "Accuracy under noise", "σ, in sd of the inputs", "test accuracy")


def differences(conclusions: Conclusions) -> Figure:
    """Paired differences of test accuracy to the baseline, a box per data set and activation."""
    traces = []
    for number, activation in enumerate(conclusions.params.activations):
        for dataset, name in enumerate(conclusions.names):
            if activation != conclusions.baseline:
                base = conclusions.best(dataset, conclusions.baseline).test_accuracy
                own = np.subtract(conclusions.best(dataset, activation).test_accuracy, base)
                traces.append({
                    "type": "box", "name": f"{name}, {activation}", "y": own.tolist(), "boxpoints": "all",
                    "marker": {"color": COLOURS[number]},
                })  # fmt: skip
    return _figure(traces, f"Test accuracy minus {conclusions.baseline}'s, paired", "", "difference", showlegend=False)


def cost_bars(costs: Sequence[Cost]) -> Figure:
    """Forward, and forward with backward."""
    names = [cost.activation for cost in costs]
    traces = [
        {"type": "bar", "name": name, "x": names, "y": values, "marker": {"color": COLOURS[number]}}
        for number, (name, values) in enumerate({
            "forward": [cost.forward_ms for cost in costs],
            "forward + backward": [cost.forward_backward_ms for cost in costs],
        }.items())
    ]  # fmt: skip
    return _figure(traces, "Cost of an activation", "", "ms", barmode="group")


def core_times(rows: Sequence[SwigluRow]) -> Figure:
    """Forward + backward of the SwiGLU core by shape."""
    traces = [
        {"type": "bar", "name": impl, "x": [f"{row.tokens} × {row.d_ff}" for row in rows if row.impl == impl],
         "y": [row.forward_backward_ms for row in rows if row.impl == impl], "marker": {"color": COLOURS[number]}}
        for number, impl in enumerate(dict.fromkeys(row.impl for row in rows))
    ]  # fmt: skip
    return _figure(traces, "SwiGLU core, forward + backward", "tokens × d_ff", "ms", barmode="group",
                   yaxis={"type": "log"})  # fmt: skip


def roofline(rows: Sequence[SwigluRow], copy_gb_per_s: float) -> Figure:
    """Forward bandwidth against size, the copy bandwidth as the roof."""
    traces = [
        _line([row.tokens * row.d_ff for row in rows if row.impl == impl],
              [row.gb_per_s for row in rows if row.impl == impl], impl, number, "markers")
        for number, impl in enumerate(dict.fromkeys(row.impl for row in rows))
    ]  # fmt: skip
    sizes = [row.tokens * row.d_ff for row in rows]
    roof = _line([min(sizes), max(sizes)], [copy_gb_per_s, copy_gb_per_s], "copy", len(traces))
    title = "Bandwidth of the forward core: 3 transfers and about 5 flops an element"
    return _figure([*traces, roof], title, "elements", "GB/s", xaxis={"type": "log"})


def _figure(traces: list[Trace], title: str, x: str, y: str, **layout: Any) -> Figure:
    xaxis = {"title": {"text": x}, **layout.pop("xaxis", {})}
    yaxis = {"title": {"text": y}, **layout.pop("yaxis", {})}
    frame = {"title": {"text": title}, "xaxis": xaxis, "yaxis": yaxis, "template": "none"}
    return {"data": traces, "layout": {**frame, **layout}}


def _line(x: Sequence[Any], y: Sequence[Any], name: str, number: int, mode: str = "lines") -> Trace:
    style = {"color": COLOURS[number % len(COLOURS)]}
    return {"type": "scatter", "mode": mode, "name": name, "x": list(x), "y": list(y), "line": style}
