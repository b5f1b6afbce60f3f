"""Sub-skill scores: bars by model, and accuracy against how long the same models' societies last."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from shared.jobs.catalog.govsim import SubskillScore
from workers.govsim.drawing import Figure, colour, figure

LEAST_POINTS = 3  # through two, any line fits


class Point(NamedTuple):
    """One group of runs whose model took a test."""

    group: str
    test: str
    accuracy: float
    survival_time: float  # mean months


def subskill_bars(scores: Mapping[str, Sequence[SubskillScore]]) -> Figure:
    """Accuracy by test, a bar per model, with its 95 % interval."""
    bars = [
        {
            "type": "bar",
            "name": model,
            "x": [score.test for score in own],
            "y": [score.accuracy for score in own],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [score.ci95_high - score.accuracy for score in own],
                "arrayminus": [score.accuracy - score.ci95_low for score in own],
            },
            "marker": {"color": colour(number)},
        }
        for number, (model, own) in enumerate(scores.items())
    ]
    return figure(
        bars, "Sub-skill accuracy, 95 % interval", "", "accuracy", barmode="group", yaxis={"range": [0, 1.02]}
    )


def accuracy_against_survival(points: Sequence[Point]) -> Figure:
    """A mark per group and test; R² of each test's line stands in its name."""
    traces = []
    for number, test in enumerate(dict.fromkeys(point.test for point in points)):
        own = [point for point in points if point.test == test]
        fit = r_squared([point.accuracy for point in own], [point.survival_time for point in own])
        traces.append({
            "type": "scatter",
            "mode": "markers",
            "name": f"{test} (R² {'undefined' if fit is None else format(fit, '.2f')})",
            "x": [point.accuracy for point in own],
            "y": [point.survival_time for point in own],
            "text": [point.group for point in own],
            "marker": {"color": colour(number)},
        })  # fmt: skip
    return figure(traces, "Sub-skill accuracy and survival", "accuracy", "mean survival time, months")


def r_squared(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Of the least-squares line; None for fewer than three points or without spread."""
    if len(x) < LEAST_POINTS or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(np.corrcoef(x, y)[0, 1] ** 2)
