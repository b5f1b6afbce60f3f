"""Sub-skill scores: bars by model, and accuracy against how long the same models' societies last."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from shared.jobs.catalog.govsim import SubskillScore
from workers.govsim.drawing import Figure, colour, figure
from workers.govsim.links import Key, Link, link

LEAST_POINTS = 3  # through two, any line fits


class Scored(NamedTuple):
    """One model's score in one test, with the keys of its prompts, wrong answers first."""

    score: SubskillScore
    keys: Sequence[Key] = ()


class Point(NamedTuple):
    """One group of runs whose model took a test."""

    group: str
    test: str
    accuracy: float
    survival_time: float  # mean months
    link: Link


def subskill_bars(scores: Mapping[str, Sequence[Scored]]) -> Figure:
    """Accuracy by test, a bar per model, with its 95 % interval."""
    bars = [
        {
            "type": "bar",
            "name": model,
            "x": [score.test for score, _ in own],
            "y": [score.accuracy for score, _ in own],
            "customdata": [link(model, (), keys=keys) for _, keys in own],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [score.ci95_high - score.accuracy for score, _ in own],
                "arrayminus": [score.accuracy - score.ci95_low for score, _ in own],
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
            "customdata": [point.link for point in own],
            "marker": {"color": colour(number)},
        })  # fmt: skip
    return figure(traces, "Sub-skill accuracy and survival", "accuracy", "mean survival time, months")


def r_squared(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Of the least-squares line; None for fewer than three points or without spread."""
    if len(x) < LEAST_POINTS or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(np.corrcoef(x, y)[0, 1] ** 2)
