"""Whole societies against trajectories of the official environment and of independent simulations."""

import numpy as np
import pytest

from shared.jobs.errors import Cancelled
from workers.govsim.hosts import local_hosts
from workers.govsim.society import conditions_of, simulate_runs
from workers.govsim.trajectories import count_actions, measure

THR = {"type": "threshold"}
TFT = {"type": "tit_for_tat"}


def fixed(quantity):
    return {"type": "fixed", "quantity": quantity}


def replay(*demands):
    return {"type": "replay", "demands": list(demands)}


SUSTAINED = [(100, 50)] * 12
ORACLES = [  # policies, stock before → after, months, total or gains, efficiency, equality, over actions / all
    pytest.param(fixed(10), SUSTAINED, [120] * 5, 1, 1, (0, 60), id="all-10"),
    pytest.param(fixed(9), [(100, 55)] * 12, [108] * 5, 0.9, 1, (0, 60), id="all-9"),
    pytest.param(fixed(20), [(100, 0)], [20] * 5, 0.166667, 1, (5, 5), id="all-20"),
    pytest.param(fixed(19), [(100, 5), (10, 0)], 105, 0.175, None, None, id="all-19"),
    pytest.param([*[fixed(19)] * 4, fixed(20)], [(100, 4)], [19] * 4 + [20], 0.16, 0.991667, (5, 5), id="19-20"),
    pytest.param(fixed(12), [(100, 40), (80, 20), (40, 0)], 160, 0.266667, None, None, id="all-12"),
    pytest.param(
        [fixed(11), *[fixed(10)] * 4],
        [(100, 49), (98, 47), (94, 43), (86, 35), (70, 19), (38, 0)],
        293,
        0.488333,
        None,
        None,
        id="one-takes-11",
    ),
    pytest.param(replay(15, 5, 5, 5, 5), [(100, 25)] + [(50, 25)] * 11, [70] * 5, 0.583333, 1, (5, 60), id="15-thr"),
    pytest.param(
        [*[THR] * 4, replay(10, 10, 30, 6)],
        [(100, 50)] * 2 + [(100, 30)] + [(60, 30)] * 9,
        [84] * 4 + [104],
        0.733333,
        0.963636,
        (1, 60),
        id="one-defection",
    ),
    pytest.param(
        [fixed(q) for q in (25, 10, 8, 5, 2)], SUSTAINED, [300, 120, 96, 60, 24], 1, 0.592, (12, 60), id="unequal"
    ),
    pytest.param(fixed(0), [(100, 100)] * 12, [0] * 5, 0, None, (0, 60), id="nobody-takes"),
    pytest.param([*[THR] * 4, fixed(40)], [(100, 20), (40, 0)], 120, 0.2, None, None, id="one-takes-40"),
    pytest.param(
        [*[TFT] * 4, replay(10, 11, 9, 9, 7, 4)],
        [(100, 50), (100, 49), (98, 45), (90, 37), (74, 23), (46, 0)],
        304,
        0.506667,
        None,
        None,
        id="tit-for-tat-one-slip",
    ),
    pytest.param(
        [*[TFT] * 4, fixed(12)],
        [(100, 48), (96, 36), (72, 12), (24, 0)],
        196,
        0.326667,
        None,
        None,
        id="tit-for-tat-and-12",
    ),
]


@pytest.mark.parametrize(("policies", "pool", "gains", "efficiency", "equality", "over"), ORACLES)
def test_societies_go_as_in_the_official_environment(play, policies, pool, gains, efficiency, equality, over):
    params, batch = play(policies=policies, runs=1)
    measured, actions = measure(batch, conditions_of(params)), count_actions(batch, conditions_of(params))
    months = len(pool)
    assert list(zip(batch.before[0, :months].tolist(), batch.after[0, :months].tolist(), strict=True)) == pool
    assert measured.survival_time[0] == batch.played[0] == months
    assert batch.granted[0].sum() == (gains if isinstance(gains, int) else sum(gains))
    if not isinstance(gains, int):
        assert batch.granted[0].sum(axis=0).tolist() == gains
    assert measured.efficiency[0] == pytest.approx(efficiency, abs=5e-7)
    if equality is not None:
        assert measured.equality[0] == pytest.approx(equality, abs=5e-7)
    if over is not None:
        assert (actions.over[0], actions.all[0]) == over


@pytest.mark.parametrize(
    ("policies", "thresholds"),
    [
        pytest.param(fixed(12), [10, 8, 4], id="all-12"),
        pytest.param([fixed(11), *[fixed(10)] * 4], [10, 9, 9, 8, 7, 3], id="one-takes-11"),
        pytest.param([*[TFT] * 4, replay(10, 11, 9, 9, 7, 4)], [10, 10, 9, 9, 7, 4], id="tit-for-tat"),
    ],
)
def test_the_threshold_follows_the_stock(play, policies, thresholds):
    _, batch = play(policies=policies, runs=1)
    assert batch.threshold[0, : batch.played[0]].tolist() == thresholds


def test_tit_for_tat_answers_the_largest_grant_of_the_others(play):
    _, batch = play(policies=[*[TFT] * 4, replay(10, 11, 9, 9, 7, 4)], runs=1)
    assert batch.demanded[0, :6].tolist() == [[10] * 5, [10] * 4 + [11], [11] * 4 + [9], [11] * 4 + [9], [11] * 4 + [7],
                                              [11] * 4 + [4]]  # fmt: skip


def test_demands_stay_as_named_when_the_grant_is_less(play):
    _, batch = play(policies=[*[THR] * 4, fixed(40)], runs=1)
    assert batch.demanded[0, :2].tolist() == [[10] * 4 + [40], [4] * 4 + [40]]


def test_a_newcomer_shares_the_threshold_as_in_the_official_code(play):
    params, batch = play(experiment="newcomer", threshold_agents="official", runs=1)
    before = [100, 100, 100, 100, 80, 60, 50, 40, *[30] * 7]
    after = [60, 52, 52, 40, 30, 25, 20, *[15] * 8]
    assert batch.before[0].tolist() == before
    assert batch.after[0].tolist() == after
    assert batch.threshold[0, :9].tolist() == [10, 12, 12, 12, 10, 7, 6, 5, 3]
    assert batch.granted[0].sum(axis=0).tolist() == [95] * 4 + [61]
    assert count_actions(batch, conditions_of(params)).over[0] == 0
    assert count_actions(batch, conditions_of(params)).all[0] == 3 * 4 + 12 * 5


def test_a_greedy_newcomer_ends_what_four_sustained(play):
    params, batch = play(experiment="newcomer", policies=[*[fixed(10)] * 4, fixed(30)], runs=1)
    assert list(zip(batch.before[0, :5].tolist(), batch.after[0, :5].tolist(), strict=True)) == [
        (100, 60), (100, 60), (100, 60), (100, 30), (60, 0),
    ]  # fmt: skip
    assert batch.played[0] == 5
    assert batch.granted.sum() == 250
    # the metrics count the months from the newcomer's arrival on, T = 12: 70 + 60 units
    measured = measure(batch, conditions_of(params))
    assert measured.gain[0] == pytest.approx(130 / 5)
    assert measured.efficiency[0] == pytest.approx(130 / 600)
    assert measured.survival_time[0] == 5


def test_runs_that_ended_before_the_newcomer_have_gain_0_and_no_equality(play):
    params, batch = play(experiment="newcomer", policies=fixed(30), runs=3)
    measured = measure(batch, conditions_of(params))
    assert measured.gain.tolist() == [0, 0, 0]
    assert np.isnan(measured.efficiency).all()
    assert np.isnan(measured.equality).all()


@pytest.mark.parametrize("scenario", ["fishery", "pasture", "pollution"])
def test_all_scenarios_are_the_same_mathematics(play, scenario):
    _, batch = play(policies={"type": "random", "low": 0, "high": 20}, scenario=scenario, runs=50)
    _, fishery = play(policies={"type": "random", "low": 0, "high": 20}, runs=50)
    np.testing.assert_array_equal(batch.granted, fishery.granted)


def test_in_sequence_an_agent_takes_from_what_the_ones_before_it_left(play):
    _, batch = play(policies=fixed(40), order="sequential", runs=500)
    assert (np.sort(batch.granted[:, 0], axis=1) == [0, 0, 20, 40, 40]).all()
    assert (batch.demanded[:, 0] == np.where(batch.granted[:, 0] == 0, 0, 40)).all()  # of nothing nobody asks anything
    served_first = (batch.granted[:, 0] == 40).mean(axis=0)
    assert served_first == pytest.approx([0.4] * 5, abs=0.09)  # every agent is equally often among the first two


def test_in_sequence_a_greedy_agent_takes_all_it_is_shown(play):
    _, batch = play(policies={"type": "greedy"}, order="sequential", runs=20)
    assert (np.sort(batch.granted[:, 0], axis=1) == [0, 0, 0, 0, 100]).all()


def test_in_sequence_the_threshold_stays_that_of_the_months_start(play):
    _, batch = play(order="sequential", runs=5)
    assert (batch.granted == 10).all()


def test_the_order_changes_from_month_to_month_and_run_to_run(play):
    _, batch = play(policies=fixed(15), order="sequential", start=40, runs=200, months=2, agents=3, collapse_below=1)
    first_month = batch.granted[:, 0]
    assert len({tuple(grants) for grants in first_month.tolist()}) == 3  # who is last gets 10


def test_the_months_of_a_run_are_those_it_played(play):
    _, batch = play(policies={"type": "random", "low": 0, "high": 30}, runs=300)
    for array in (batch.before, batch.after, batch.threshold, batch.utterances):
        assert not array[~batch.is_played].any()
    assert not batch.granted[~batch.is_played].any()


@pytest.mark.parametrize(
    ("given", "stocks"),
    [
        pytest.param({"growth": 3, "policies": fixed(0), "start": 20}, [20, 60, 100], id="triples-to-the-cap"),
        pytest.param({"growth": 1, "policies": fixed(0)}, [100, 100, 100], id="does-not-grow"),
        pytest.param({"capacity": 10**6, "policies": fixed(10**5)}, [10**6] * 3, id="a-million"),
    ],
)
def test_the_stock_grows_up_to_the_capacity(play, given, stocks):
    _, batch = play(months=3, runs=1, **given)
    assert batch.before[0].tolist() == stocks


def societies(play, runs, policies):
    params, batch = play(runs=runs, policies=policies)
    measured = measure(batch, conditions_of(params))
    return {name: (np.nanmean(values), np.nanstd(values)) for name, values in measured._asdict().items()}


SOCIETIES = [  # means and their errors over 10⁵ runs of an independent implementation
    pytest.param(
        {"type": "random", "low": 0, "high": 20},
        {"survival_time": (5.325, 0.008), "gain": (49.84, 0.07), "equality": (0.877, 0.0005)},
        id="random",
    ),
    pytest.param(
        {"type": "greedy"},
        {"survival_time": (1, 0), "gain": (20, 0), "efficiency": (1 / 6, 0), "equality": (0.8996, 0.0003)},
        id="all-greedy",
    ),
    pytest.param(
        {"type": "random", "low": 0, "high": 2, "unit": "threshold"},
        {"survival_time": (11.977, 0.002), "gain": (89.80, 0.04)},
        id="random-0-2thr",
    ),
]


@pytest.mark.parametrize(("policies", "expected"), SOCIETIES)
@pytest.mark.parametrize("runs", [8_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_random_societies_have_the_means_of_an_independent_simulation(play, runs, policies, expected):
    found = societies(play, runs, policies)
    for name, (mean, error) in expected.items():
        spread = np.hypot(error, found[name][1] / np.sqrt(runs))
        assert abs(found[name][0] - mean) <= 4 * spread + 5e-5, name


def test_greedy_equality_spreads_as_the_lottery_does(play):
    assert societies(play, 8_000, {"type": "greedy"})["equality"][1] == pytest.approx(0.037, abs=0.0015)


def test_a_society_can_be_stopped_in_every_month():
    from shared.jobs.catalog.govsim import SimulateParams

    params, months = SimulateParams(runs=1), []

    def check():
        months.append(len(months))
        if len(months) == 4:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        simulate_runs(params, np.arange(1), local_hosts(params), check)
    assert months == [0, 1, 2, 3]
