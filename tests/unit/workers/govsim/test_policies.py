"""Each scripted policy as a table of what it sees and what it asks for."""

import numpy as np
import pytest

from shared.jobs.catalog.govsim import Fixed, Greedy, Random, Replay, Threshold, TitForTat
from workers.govsim.policies import Report, Sight, demands
from workers.govsim.randomness import Draws


def asked(policy, month=0, stock=100, threshold=10, last=None, agents=(0,)):
    report = last and Report(np.array([last[0]]), np.array([last[1]]))
    sight = Sight(month, np.array([0]), np.array([stock]), np.array([threshold]), report)
    return demands(policy, sight, np.array([agents]), Draws(1))[0].tolist()


@pytest.mark.parametrize(
    ("policy", "seen", "wanted"),
    [
        pytest.param(Threshold(), {}, [10], id="threshold"),
        pytest.param(Fixed(type="fixed", quantity=250), {}, [250], id="fixed-above-the-stock"),
        pytest.param(Greedy(type="greedy"), {"stock": 77}, [77], id="greedy-takes-the-stock"),
        pytest.param(Greedy(type="greedy", factor=1.5), {"threshold": 7}, [10], id="greedy-factor-is-floored"),
        pytest.param(Greedy(type="greedy", factor=0.29), {"threshold": 100}, [29], id="greedy-factor-is-a-decimal"),
        pytest.param(Greedy(type="greedy", factor=0), {}, [0], id="greedy-factor-0"),
        pytest.param(Replay(type="replay", demands=[3, 4]), {"month": 0}, [3], id="replay-first"),
        pytest.param(Replay(type="replay", demands=[3, 4]), {"month": 1}, [4], id="replay-second"),
        pytest.param(Replay(type="replay", demands=[3, 4]), {"month": 9}, [4], id="replay-last-repeats"),
        pytest.param(TitForTat(type="tit_for_tat"), {}, [10], id="tit-for-tat-begins-kindly"),
        pytest.param(TitForTat(type="tit_for_tat"), {"month": 1, "last": ([10, 11], 10)}, [11], id="answers"),
        pytest.param(TitForTat(type="tit_for_tat"), {"month": 1, "last": ([30, 10], 10)}, [10], id="forgives-itself"),
        pytest.param(
            TitForTat(type="tit_for_tat"),
            {"month": 1, "last": ([30, 10], 10), "agents": (0, 1)},
            [10, 30],
            id="each-its-own-answer",
        ),
        pytest.param(
            TitForTat(type="tit_for_tat"), {"month": 1, "last": ([9, 30], 10), "stock": 20}, [20], id="at-most-R"
        ),
        pytest.param(
            TitForTat(type="tit_for_tat"),
            {"month": 1, "last": ([9, 10], 9), "threshold": 8},
            [10],
            id="measures-by-last-months-thr",
        ),
        pytest.param(
            TitForTat(type="tit_for_tat"), {"month": 1, "last": ([9, 9], 9), "threshold": 8}, [8], id="content"
        ),
        pytest.param(
            TitForTat(type="tit_for_tat"),
            {"month": 3, "last": ([50, 50], 10), "agents": (2,)},
            [10],
            id="a-newcomer-has-nothing-to-answer",
        ),
        pytest.param(TitForTat(type="tit_for_tat"), {"month": 1, "last": ([50], 10)}, [10], id="alone"),
    ],
)
def test_a_policy_asks_for(policy, seen, wanted):
    assert asked(policy, **seen) == wanted


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(Fixed(type="fixed", quantity=5), id="fixed"),
        pytest.param(Random(type="random", low=3, high=4), id="random"),
        pytest.param(Replay(type="replay", demands=[3]), id="replay"),
    ],
)
def test_of_an_empty_stock_nobody_asks_anything(policy):
    assert asked(policy, stock=0, threshold=0) == [0]


@pytest.mark.parametrize(
    ("policy", "values"),
    [
        pytest.param(Random(type="random", low=2, high=4), {2, 3, 4}, id="units"),
        pytest.param(Random(type="random", low=0, high=1, unit="threshold"), set(range(11)), id="up-to-the-threshold"),
        pytest.param(Random(type="random", low=7, high=7), {7}, id="a-single-value"),
    ],
)
def test_random_demands_cover_their_range_equally(policy, values):
    runs = np.arange(22_000)
    sight = Sight(0, runs, np.full(22_000, 100), np.full(22_000, 10), None)
    found, counts = np.unique(demands(policy, sight, np.array([[0]]), Draws(1)), return_counts=True)
    assert set(found.tolist()) == values
    assert np.abs(counts / counts.mean() - 1).max() < 0.1


def test_agents_with_the_same_random_policy_draw_apart():
    wanted = asked(Random(type="random", low=0, high=10**9), agents=tuple(range(50)))
    assert len(set(wanted)) == 50
