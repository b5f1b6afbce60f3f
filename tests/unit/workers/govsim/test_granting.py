"""Granting against exact expectations, a plain lottery, and the official code's outputs."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

from workers.govsim.granting import grant, multinomial
from workers.govsim.randomness import Draws, Purpose


def granted(demands, stock, runs, allocation="stochastic", seed=0):
    """(runs, agents) grants of the same month, `runs` times over."""
    wanted = np.tile(np.array(demands), (runs, 1))
    return grant(wanted, np.full(runs, stock), allocation, Draws(seed), np.arange(runs), 0)


def plain_lottery(demands, stock, rng):
    """The rule as the paper states it: one unit to an agent drawn from the list of those below their demand."""
    grants = [0] * len(demands)
    while stock > 0 and (below := [i for i, w in enumerate(demands) if grants[i] < w]):
        grants[below[rng.randint(len(below))]] += 1
        stock -= 1
    return grants


@cache
def exact_means(demands, stock):
    """Expected grants by dynamic programming over who gets the next unit."""
    below = [i for i, w in enumerate(demands) if w > 0]
    if stock == 0 or not below:
        return (0.0,) * len(demands)
    total = np.zeros(len(demands))
    for agent in below:
        rest = tuple(w - (i == agent) for i, w in enumerate(demands))
        total += np.array(exact_means(rest, stock - 1))
        total[agent] += 1
    return tuple(total / len(below))


EXPECTATIONS = [
    pytest.param((50, 50, 1, 1, 1), 10, [3.555716, 3.555716, 0.962856, 0.962856, 0.962856], id="two-large"),
    pytest.param((5, 1, 1), 4, [721 / 324, 575 / 648, 575 / 648], id="five-and-ones"),
    pytest.param((6, 2, 1), 6, [3.260674, 1.789480, 0.949846], id="six-two-one"),
    pytest.param((10, 3, 3, 2, 2), 12, [3.346397, 2.510306, 2.510306, 1.816495, 1.816495], id="five-unequal"),
]


@pytest.mark.parametrize(("demands", "stock", "means"), EXPECTATIONS)
def test_the_reference_recursion_has_the_published_expectations(demands, stock, means):
    np.testing.assert_allclose(exact_means(demands, stock), means, atol=5e-7)


@pytest.mark.parametrize(("demands", "stock", "means"), EXPECTATIONS)
def test_the_lottery_has_the_exact_expectations(demands, stock, means):
    grants = granted(demands, stock, runs=60_000)
    error = grants.std(axis=0) / np.sqrt(len(grants))
    assert (np.abs(grants.mean(axis=0) - means) < 4.5 * error).all()


@pytest.mark.parametrize(
    ("demands", "stock"),
    [
        pytest.param([30] * 5, 100, id="equal"),
        pytest.param([40, 10, 10, 10, 10], 50, id="one-large"),
        pytest.param([7, 1, 3], 9, id="nearly-enough"),
    ],
)
def test_the_lottery_has_the_law_of_the_plain_one(demands, stock):
    rng = np.random.RandomState(1)
    theirs = np.array([plain_lottery(demands, stock, rng) for _ in range(3_000)])
    ours = granted(demands, stock, runs=3_000)
    for agent in range(len(demands)):
        values = np.union1d(ours[:, agent], theirs[:, agent])
        table = np.array([[(side[:, agent] == value).sum() for value in values] for side in (ours, theirs)])
        rare = table.sum(axis=0) < 10
        pooled = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
        pooled = pooled[:, pooled.sum(axis=0) > 0]
        assert pooled.shape[1] == 1 or stats.chi2_contingency(pooled).pvalue > 1e-4
    np.testing.assert_allclose(np.cov(ours.T), np.cov(theirs.T), atol=0.15 * np.cov(theirs.T).max() + 0.05)


@pytest.mark.parametrize(
    ("demands", "stock", "seed", "expected"),
    [
        pytest.param([30] * 5, 100, 0, [22, 20, 17, 22, 19], id="equal-seed-0"),
        pytest.param([30] * 5, 100, 1, [21, 24, 15, 17, 23], id="equal-seed-1"),
        pytest.param([40, 10, 10, 10, 10], 50, 0, [13, 9, 8, 10, 10], id="one-large"),
    ],
)
def test_the_plain_lottery_is_the_official_one(demands, stock, seed, expected):
    assert plain_lottery(demands, stock, np.random.RandomState(seed)) == expected


def test_equal_large_demands_give_a_multinomial():
    grants = granted([100] * 5, 100, runs=40_000)
    assert grants.mean() == pytest.approx(20)
    assert grants.std(axis=0) == pytest.approx([4.0] * 5, rel=0.02)  # √(100 · 1/5 · 4/5)


@pytest.mark.parametrize("allocation", ["stochastic", "proportional"])
@pytest.mark.parametrize(
    ("demands", "stock"),
    [
        pytest.param([150, 101, 0, 3, 100], 100, id="demands-above-the-stock"),
        pytest.param([1, 1, 1], 2, id="one-unit-short"),
        pytest.param([10**9] * 7, 10**6, id="largest-stock"),
        pytest.param([5], 3, id="alone"),
        pytest.param([3, 7, 0], 0, id="nothing-left"),
    ],
)
def test_all_of_a_short_stock_is_granted_and_nobody_gets_more_than_asked(allocation, demands, stock):
    grants = granted(demands, stock, 200, allocation)
    assert (grants.sum(axis=1) == min(stock, sum(demands))).all()
    assert (grants >= 0).all()
    assert (grants <= np.array(demands)).all()


@pytest.mark.parametrize("allocation", ["stochastic", "proportional"])
def test_where_the_stock_suffices_everyone_gets_their_demand(allocation):
    assert granted([20, 0, 30, 50], 100, 3, allocation).tolist() == [[20, 0, 30, 50]] * 3


@pytest.mark.parametrize(
    ("demands", "stock", "expected"),
    [
        pytest.param([30] * 5, 100, [20] * 5, id="equal"),
        pytest.param([12] * 5, 40, [8] * 5, id="eight-each"),
        pytest.param([50, 50, 50, 50, 0], 100, [25, 25, 25, 25, 0], id="one-asks-nothing"),
    ],
)
def test_exact_shares_need_no_draw(demands, stock, expected):
    assert granted(demands, stock, 50, "proportional").tolist() == [expected] * 50


def test_rounded_off_units_fall_in_proportion_to_what_is_still_wanted():
    # 10 units for 2, 5, 8: shares 1.33, 3.33, 5.33, so 1, 3, 5 and one unit by lot with weights 1, 2, 3
    grants = granted([2, 5, 8], 10, 30_000, "proportional")
    extra = (grants - np.array([1, 3, 5])).mean(axis=0)
    np.testing.assert_allclose(extra, [1 / 6, 2 / 6, 3 / 6], atol=0.012)


def test_agents_whose_share_is_whole_get_no_rounded_off_unit():
    # 10 units for 4, 3, 13: shares 2, 1.5, 6.5; the unit is between the last two, weights 2 and 7
    grants = granted([4, 3, 13], 10, 5_000, "proportional")
    assert (grants[:, 0] == 2).all()
    assert (grants[:, 1] == 2).mean() == pytest.approx(2 / 9, abs=0.025)


def test_a_multinomial_throws_only_at_the_open():
    is_open = np.tile([True, False, True, True], (8_000, 1))
    draws = Draws(5)

    def uniforms(rows, agent, draw):
        return draws.uniform(Purpose.LOTTERY, rows, 0, agent, draw)

    counts = multinomial(np.full(8_000, 9), is_open, uniforms, 0)
    assert (counts.sum(axis=1) == 9).all()
    assert not counts[:, 1].any()
    assert counts[:, [0, 2, 3]].mean(axis=0) == pytest.approx([3, 3, 3], abs=0.08)
    assert np.corrcoef(counts[:, 0], counts[:, 2])[0, 1] == pytest.approx(-0.5, abs=0.04)  # −1/(k − 1)


def test_only_runs_that_are_short_draw():
    wanted = np.array([[10, 10], [80, 80], [10, 10]])
    stock = np.array([100, 100, 15])
    together = grant(wanted, stock, "stochastic", Draws(0), np.array([4, 5, 6]), 2)
    alone = grant(wanted[1:2], stock[1:2], "stochastic", Draws(0), np.array([5]), 2)
    assert together[0].tolist() == [10, 10]
    assert together[1].tolist() == alone[0].tolist()
