"""The metrics of GOVSIM against numbers worked by hand or printed in the paper."""

import math

import numpy as np
import pytest

from shared.metrics.commons import (
    efficiency,
    equality,
    gain,
    gini,
    kaplan_meier,
    over_usage,
    over_usage_published,
    share_collapsed,
    summarise,
    survival_time,
    survived,
    sustainability_threshold,
    threshold_per_agent,
)


def row(*values):
    return np.array([values])


@pytest.mark.parametrize(
    ("stock", "growth", "expected"),
    [
        pytest.param(100, 2, 50, id="half-of-an-even-stock"),
        pytest.param(49, 2, 24, id="floor-of-half-an-odd-stock"),
        pytest.param(1, 2, 0, id="nothing-of-one-unit"),
        pytest.param(0, 2, 0, id="nothing-of-nothing"),
        pytest.param(100, 3, 66, id="3-times-34-is-102"),
        pytest.param(100, 1, 0, id="no-growth-nothing-to-take"),
    ],
)
def test_the_group_may_take_what_growth_gives_back(stock, growth, expected):
    taken = int(sustainability_threshold(np.array([stock]), growth)[0])
    assert taken == expected
    assert growth * (stock - taken) >= stock
    assert taken == stock or growth * (stock - taken - 1) < stock


@pytest.mark.parametrize(
    ("stock", "agents", "expected"),
    [
        pytest.param(100, 5, 10, id="paper"),
        pytest.param(98, 5, 9, id="49-by-5"),
        pytest.param(38, 5, 3, id="19-by-5"),
        pytest.param(100, 4, 12, id="four-locals"),
        pytest.param(8, 5, 0, id="too-little-for-all"),
    ],
)
def test_the_threshold_per_agent_is_floored_twice(stock, agents, expected):
    assert threshold_per_agent(np.array([stock]), agents)[0] == expected


@pytest.mark.parametrize(
    ("after", "months", "time", "alive"),
    [
        pytest.param([50, 50, 50], 3, 3, True, id="never-below"),
        pytest.param([50, 4, 99], 3, 2, False, id="second-month"),
        pytest.param([5, 5, 5], 3, 3, True, id="exactly-the-bound-is-alive"),
        pytest.param([50, 50, 0], 3, 3, False, id="emptied-in-the-last-month"),
        pytest.param([50] * 15, 15, 15, True, id="fifteen-months"),
    ],
)
def test_survival_time_is_the_first_month_below_the_bound(after, months, time, alive):
    assert survival_time(row(*after), 5, months)[0] == time
    assert survived(row(*after), 5)[0] == alive


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        pytest.param([13, 17, 22, 24, 24], 0.884, id="near-equal"),
        pytest.param([30, 28, 26, 25, 24, 17], 0.913333, id="six-agents"),
        pytest.param([1, 2, 3, 4, 5], 0.733333, id="one-to-five"),
        pytest.param([0, 0, 0, 0, 100], 0.2, id="one-takes-all"),
        pytest.param([7, 7, 7], 1.0, id="equal"),
        pytest.param([84, 84, 84, 84, 104], 0.963636, id="one-defection"),
        pytest.param([300, 120, 96, 60, 24], 0.592, id="unequal-but-sustained"),
    ],
)
def test_equality_is_one_minus_the_population_gini(gains, expected):
    assert equality(row(*gains))[0] == pytest.approx(expected, abs=5e-7)
    pairs = sum(abs(a - b) for a in gains for b in gains)  # the formula as the paper prints it
    assert equality(row(*gains))[0] == pytest.approx(1 - pairs / (2 * len(gains) * sum(gains)))


def test_equality_of_nothing_is_undefined():
    assert math.isnan(equality(row(0, 0, 0))[0])


def test_gini_of_months_runs_over_the_last_axis():
    months = np.array([[[10, 10], [0, 4]], [[0, 0], [1, 3]]])
    np.testing.assert_allclose(gini(months), [[0, 0.5], [np.nan, 0.25]])


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        pytest.param([120] * 5, 1.0, id="optimum"),
        pytest.param([130] * 5, 1.0, id="capped-above"),
        pytest.param([20] * 5, 1 / 6, id="greedy"),
        pytest.param([0] * 5, 0.0, id="nothing"),
        pytest.param([30, 12, 20, 20, 19], 101 / 600, id="sum-counts"),
    ],
)
def test_efficiency_compares_with_twelve_sustainable_months(gains, expected):
    assert efficiency(row(*gains), 12, 50)[0] == pytest.approx(expected)
    assert expected == 1 or efficiency(row(*gains), 12, 50)[0] == pytest.approx(gain(row(*gains))[0] / 120)


def test_efficiency_without_a_sustainable_share_is_undefined():
    assert math.isnan(efficiency(row(3), 12, 0)[0])


def test_published_over_usage_counts_utterances_and_gives_the_printed_figures():
    # "29.01 ± 0.88" in the paper: five runs, 4 of 5 harvests over, 9 utterances in four runs and 8 in one
    shares = over_usage_published(np.full(5, 4), np.full(5, 5), np.array([9, 9, 9, 9, 8]))
    assert (round(100 * shares.mean(), 2), round(100 * shares.std(), 2)) == (29.01, 0.88)
    # "34.29 ± 2.86": {5/14 ×4, 4/14}
    shares = over_usage_published(np.array([5, 5, 5, 5, 4]), np.full(5, 5), np.full(5, 9))
    assert (round(100 * shares.mean(), 2), round(100 * shares.std(), 2)) == (34.29, 2.86)
    assert round(100 * over_usage_published(np.array([5]), np.array([5]), np.array([9]))[0], 2) == 35.71


def test_over_usage_counts_harvests_only():
    assert over_usage(np.array([8]), np.array([10]))[0] == 0.8
    assert math.isnan(over_usage(np.array([0]), np.array([0]))[0])


def test_the_paper_prints_population_std_beside_means_and_sample_std_beside_gain():
    # Mixtral, pollution: five runs of 20 but one; gain 20.28 ± 0.63 beside efficiency 16.90 ± 0.47
    gains = np.array([20, 20, 20, 20, 21.4])
    assert round(summarise(gains).mean, 2) == 20.28
    assert round(summarise(gains).std, 2) == 0.63
    efficiencies = summarise(100 * gains / 120)
    assert (round(efficiencies.mean, 2), round(efficiencies.std_population, 2)) == (16.9, 0.47)


def test_the_interval_is_the_t_interval_of_the_mean():
    # GPT-4o, 15 runs: 9.3 ± 2.2 = t(.975; 14) · 4.01/√15 = 2.145 · 1.035
    spread = np.array([4.01 * (-1) ** i for i in range(14)] + [0.0]) * math.sqrt(14 / 14)
    summary = summarise(9.3 + spread)
    assert summary.std == pytest.approx(4.01)
    assert round(summary.ci95, 1) == 2.2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], (None, None, None, None), id="no-run"),
        pytest.param([math.nan, math.nan], (None, None, None, None), id="undefined-everywhere"),
        pytest.param([3.0], (3.0, None, 0.0, None), id="one-run"),
        pytest.param([math.nan, 3.0], (3.0, None, 0.0, None), id="one-defined-run"),
        pytest.param([2.0, 2.0], (2.0, 0.0, 0.0, 0.0), id="two-equal-runs"),
        pytest.param([0.1] * 20, (0.1, 0.0, 0.0, 0.0), id="equal-values-have-no-last-bits-of-spread"),
    ],
)
def test_undefined_values_enter_no_mean(values, expected):
    assert tuple(summarise(np.array(values, dtype=float))) == expected


def test_kaplan_meier_multiplies_the_chances_of_each_month():
    # 4 runs: deaths in months 1 and 3, two censored at 3: S(1) = 3/4, S(3) = 3/4 · 2/3
    curve = kaplan_meier(np.array([1, 3, 3, 3]), np.array([True, True, False, False]), 3)
    np.testing.assert_allclose(curve.share, [1, 0.75, 0.75, 0.5])
    assert (curve.low <= curve.share).all()
    assert (curve.high >= curve.share).all()


def test_the_kaplan_meier_band_is_exponential_greenwood():
    # S = 1/2 after one death of two: V = 1/2 · 1/(2·1) / log²(1/2); z(.68) = 0.99446
    curve = kaplan_meier(np.array([1, 2]), np.array([True, False]), 2)
    width = 0.994457883 * math.sqrt(1 / 2) / math.log(2)
    assert curve.low[1] == pytest.approx(0.5 ** math.exp(width), abs=1e-8)
    assert curve.high[1] == pytest.approx(0.5 ** math.exp(-width), abs=1e-8)


def test_when_all_runs_die_at_once_the_band_is_the_curve():
    curve = kaplan_meier(np.array([1, 1]), np.array([True, True]), 2)
    np.testing.assert_array_equal(curve.share, [1, 0, 0])
    np.testing.assert_array_equal(curve.low, curve.high)


def test_a_run_emptied_in_its_last_month_is_in_the_share_collapsed():
    share = share_collapsed(np.array([1, 12, 12]), np.array([True, True, False]), 12)
    assert share[0] == pytest.approx(1 / 3)
    assert share[10] == pytest.approx(1 / 3)
    assert share[11] == pytest.approx(2 / 3)
