"""The figures of SiLU's kinds hold the numbers they are drawn from."""

import json

import numpy as np
import pytest

from shared.jobs.catalog.silu import Cell, CompareParams, Cost, Interval, Robustness, SwigluRow
from workers.silu.conclusions import Conclusions
from workers.silu.facts import INFLECTION, W
from workers.silu.figures import core_times, cost_bars, curves, differences, noise, roofline, validation_loss
from workers.silu.study import Arm, Trained


@pytest.fixture
def conclusions():
    """Two data sets, two activations, three seeds, four epochs."""
    rng = np.random.default_rng(0)
    arms = [Arm(dataset, name, 0.01) for dataset in range(2) for name in ("relu", "silu")]
    trained = [
        Trained(rng.uniform(0.1, 1, (3, 4)).tolist(), rng.uniform(0, 1, (3, 4)).tolist(), [0.1] * 3,
                rng.uniform(0, 1, 3).tolist(), {"1": [0.5] * 3}) for _ in arms
    ]  # fmt: skip
    params = CompareParams(activations=["relu", "silu"], lr_grid=[0.01], seeds=3, epochs=4, noise_sigmas=[1.0])
    return Conclusions(params, ["a", "b"], arms, trained)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_extrema_are_marked_where_they_are_for_every_beta(beta):
    traces = {trace["name"]: trace for trace in curves(beta, 101)["data"]}
    assert traces["extrema of f"]["x"] == pytest.approx([-(1 + W) / beta], abs=1e-8)
    assert traces["extrema of f"]["y"] == pytest.approx([-W / beta], abs=1e-8)
    assert traces["extrema of f′"]["x"] == pytest.approx([-INFLECTION / beta, INFLECTION / beta], abs=1e-8)
    assert max(traces["f′"]["y"]) <= 1.0998393202
    assert len(traces["f"]["x"]) == 101


def test_the_band_runs_around_the_mean_loss_and_back(conclusions):
    figure = validation_loss(conclusions, 1)
    line, band = figure["data"][:2]
    losses = np.array(conclusions.best(1, "relu").val_loss)
    assert line["y"] == pytest.approx(losses.mean(axis=0).tolist())
    assert band["x"] == [1, 2, 3, 4, 4, 3, 2, 1]
    assert all(high >= mean >= low for high, mean, low in zip(band["y"][:4], line["y"], band["y"][:3:-1], strict=True))
    assert "on b" in figure["layout"]["title"]["text"]
    assert figure["layout"]["yaxis"]["type"] == "log"


def test_boxes_hold_paired_differences_and_no_box_is_the_baselines(conclusions):
    boxes = differences(conclusions)["data"]
    assert [box["name"] for box in boxes] == ["a, silu", "b, silu"]
    own, base = (conclusions.best(0, name).test_accuracy for name in ("silu", "relu"))
    assert boxes[0]["y"] == pytest.approx([one - other for one, other in zip(own, base, strict=True)])


def test_noise_begins_with_the_clean_accuracy():
    mean = Interval(mean=0.9, sd=0.1, low=0.85, high=0.95)
    noisy = Interval(mean=0.6, sd=0.1, low=0.5, high=0.7)
    cells = [Cell(dataset="a", activation="silu", lr=0.01, accuracy=mean, loss=mean, against=None)]
    rows = [Robustness(dataset="a", activation="silu", sigma=2.0, accuracy=noisy, against=None)]
    (line,) = noise(rows, cells)["data"]
    assert (line["x"], line["y"]) == ([0, 2.0], [0.9, 0.6])
    assert line["error_y"]["array"] == pytest.approx([0.05, 0.1])


def test_costs_are_two_bars_an_activation():
    costs = [Cost(activation=name, forward_ms=1.0 + n, forward_backward_ms=3.0 + n) for n, name in enumerate("ab")]
    ahead, both = cost_bars(costs)["data"]
    assert (ahead["x"], ahead["y"], both["y"]) == (["a", "b"], [1.0, 2.0], [3.0, 4.0])


def row(impl, tokens, gb_per_s):
    return SwigluRow(tokens=tokens, d_ff=8, impl=impl, forward_ms=1.0, forward_backward_ms=float(tokens),
                     gb_per_s=gb_per_s, saved_bytes=1, peak_bytes=None, max_error=0.0, relative_rms_error=0.0,
                     fastest=False)  # fmt: skip


def test_times_of_the_core_are_grouped_by_implementation():
    traces = core_times([row("eager", 1, 5.0), row("native", 1, 6.0), row("eager", 64, 7.0)])["data"]
    assert [(trace["name"], trace["x"]) for trace in traces] == [("eager", ["1 × 8", "64 × 8"]), ("native", ["1 × 8"])]


def test_the_roof_is_the_copy_bandwidth_over_all_sizes():
    *points, roof = roofline([row("eager", 1, 5.0), row("native", 64, 6.0)], 20.0)["data"]
    assert [point["y"] for point in points] == [[5.0], [6.0]]
    assert (roof["x"], roof["y"]) == ([8, 512], [20.0, 20.0])


def test_every_figure_is_plain_json(conclusions):
    figures = [
        curves(1.0, 11),
        validation_loss(conclusions, 0),
        differences(conclusions),
        roofline([row("a", 1, 1.0)], 2.0),
    ]
    for figure in figures:
        assert json.loads(json.dumps(figure, allow_nan=False)) == figure
