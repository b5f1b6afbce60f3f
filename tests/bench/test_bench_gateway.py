"""The bench runs, its peer publishes the same work, and its figures mean what they say."""

import pytest

from tests.bench.bench_gateway import _limit, _row, rows
from tests.bench.load import percentile


def test_a_ratio_above_one_means_that_ours_is_better():
    rate = _row("rate", "peer", "1/s", [200.0, 300.0, 240.0], [100.0, 200.0, 100.0])
    assert (rate["ratio"], rate["spread"]) == (2.0, [1.5, 2.4])  # 200/100, 300/200, 240/100
    latency = _row("latency", "peer", "ms", [2.0, 4.0, 5.0], [4.0, 4.0, 4.0], less_is_better=True)
    assert (latency["ratio"], latency["spread"]) == (1.0, [0.8, 2.0])  # 4/2, 4/4, 4/5


def test_a_figure_with_a_limit_is_compared_with_it():
    assert _limit("delay", [100.0, 125.0, 500.0], goal_ms=250)["ratio"] == 2.0


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 6), (90, 10), (99, 10)])
def test_a_percentile_is_a_value_that_was_measured(percent, value):
    assert percentile(range(1, 11), percent) == value


@pytest.mark.slow
def test_the_gateway_is_measured_in_every_respect():
    measured = rows(quick=True)
    assert [row["goal"] for row in measured if row["goal"] is not None] == [1.3, 1.0, 1.0]
    assert all(row["ours"] > 0 for row in measured)
