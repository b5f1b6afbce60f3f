"""The bench runs, and the peer it measures against plays the same game."""

import pytest

from tests.bench.bench_govsim import MesaCommons, rows


@pytest.mark.parametrize(
    ("is_greedy", "months", "gains"),
    [
        pytest.param(False, 12, 600, id="threshold"),
        pytest.param(True, 1, 100, id="greedy"),
    ],
)
def test_the_peer_plays_the_same_commons(is_greedy, months, gains):
    model = MesaCommons(is_greedy, seed=0)
    while model.running:
        model.step()
    assert (model.months, sum(model.agents.get("gain"))) == (months, gains)


@pytest.mark.slow
def test_the_goals_are_met():
    for row in rows(quick=True):
        assert row["goal"] is None or row["ratio"] >= row["goal"], row
