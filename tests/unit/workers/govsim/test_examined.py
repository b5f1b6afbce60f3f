"""Sub-skill scores beside the societies of the same models."""

import json

import pytest

from shared.jobs.catalog.govsim import AnalyseParams, SubskillScore
from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from tests.unit.workers.govsim.scripted import society_script, talk
from workers.govsim.jobs import analyse
from workers.govsim.subskill_figures import Scored, r_squared, subskill_bars

RUNS, SCORES = "file:" + "a" * 64, "file:" + "b" * 64


def score(**values):
    defaults = {"test": "dynamics", "items": 150, "accuracy": 0.5, "std": 0.5, "ci95_low": 0.42, "ci95_high": 0.58,
                "unreadable": 3}  # fmt: skip
    return defaults | values


def analysed(folder, runs, scores):
    (folder / "scores").write_text("".join(json.dumps(line) + "\n" for line in scores))
    ctx = LocalContext(folder / "out", inputs={RUNS: runs, SCORES: folder / "scores"})
    try:
        analyse(AnalyseParams(sources=[RUNS], subskills=[SCORES]), ctx)
        ctx.close()
    finally:
        ctx.release()
    return {name: json.loads((folder / "out" / f"{name}.plotly.json").read_text())
            for name in ("subskills", "subskills_survival")}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    ctx = LocalContext(folder)
    talk(ctx, society_script(units=20), runs=1)
    ctx.close()
    return folder / "runs.jsonl"


def test_a_models_accuracy_stands_against_its_societies_survival(tmp_path, runs):
    lines = [
        {"model": "model", "scenario": "fishery", **score(), "keys": ["fishery/dynamics/item3"]},
        {"model": "endpoint:elsewhere/model", "scenario": "pasture", **score()},
        {"model": "other", "scenario": "fishery", **score(accuracy=0.9)},
    ]
    drawn = analysed(tmp_path, runs, lines)
    (trace,) = drawn["subskills_survival"]["data"]
    assert (trace["x"], trace["y"], trace["name"]) == ([0.5], [1.0], "dynamics (R² undefined)")
    asked = [{"source": SCORES, "key": "fishery/dynamics/item3"}]
    assert trace["customdata"][0]["keys"] == drawn["subskills"]["data"][0]["customdata"][0]["keys"] == asked
    assert trace["customdata"][0]["runs"] == [{"source": RUNS, "run": "0"}]
    assert [bar["name"] for bar in drawn["subskills"]["data"]] == [
        "model, fishery", "endpoint:elsewhere/model, pasture", "other, fishery",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        pytest.param([{"model": "m"}], "line 1: is no sub-skill score", id="keys-missing"),
        pytest.param([{"model": "m", "scenario": "fishery", "test": "dynamics"}], "`items`", id="numbers-missing"),
        pytest.param(["text"], "is no sub-skill score", id="no-object"),
    ],
)
def test_what_are_no_scores_is_refused(tmp_path, runs, lines, says):
    with pytest.raises(InvalidInput, match=says):
        analysed(tmp_path, runs, lines)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        pytest.param([0, 0.5, 1], [1, 2, 3], 1.0, id="a-line"),
        pytest.param([0, 1, 2], [1, 3, 1], 0.0, id="no-line"),
        pytest.param([0, 1], [1, 2], None, id="two-points"),
        pytest.param([1, 1, 1], [1, 2, 3], None, id="no-spread"),
    ],
)
def test_r_squared_is_of_three_points_or_more(x, y, expected):
    assert r_squared(x, y) == (expected if expected is None else pytest.approx(expected))


def test_bars_have_the_clipped_interval():
    (bar,) = subskill_bars({"m": [Scored(SubskillScore(**score()))]})["data"]
    assert (bar["y"], bar["error_y"]["array"], bar["error_y"]["arrayminus"]) == (
        [0.5], [pytest.approx(0.08)], [pytest.approx(0.08)],
    )  # fmt: skip
