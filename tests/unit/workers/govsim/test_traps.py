"""Each trap of the published method that the commons touches, by its name."""

import json
import tarfile

import numpy as np
import pytest

from shared.jobs.catalog.govsim import AnalyseParams, SimulateParams
from shared.jobs.local import LocalContext
from workers.govsim.commons import Commons, Membership, ThresholdRule
from workers.govsim.jobs import analyse, simulate
from workers.govsim.replies import failure_rate, is_readable
from workers.govsim.society import conditions_of
from workers.govsim.trajectories import measure

SOURCE, REPLIES = "file:" + "a" * 64, "file:" + "b" * 64


def fixed(quantity):
    return {"type": "fixed", "quantity": quantity}


def stock(*units):
    return np.array(units)


@pytest.mark.parametrize(
    ("reply", "readable"),
    [
        pytest.param(None, False, id="no-reply"),
        pytest.param("", False, id="empty"),
        pytest.param("I would take 10 tons.", False, id="no-marker"),
        pytest.param("Answer:", False, id="nothing-after-the-marker"),
        pytest.param("Answer: five tons", False, id="words"),
        pytest.param("Answer: 0 tons", True, id="zero-said"),
        pytest.param("So, the answer is: 7 tons", True, id="official-marker"),
        pytest.param("**Answer**: 12 tons", True, id="bold-marker"),
        pytest.param("**Answer:** 12 tons", True, id="bold-with-colon"),
    ],
)
def test_trap_1_a_failed_reply_is_counted_not_taken_for_restraint(reply, readable):
    assert is_readable(reply) is readable


def test_trap_1_an_action_without_any_reply_line_counts_as_failed():
    assert failure_rate({(1, "persona_0"): True, (1, "persona_1"): False}, actions=4) == 0.75


def test_trap_1_invalid_runs_keep_their_metrics_and_enter_no_mean(tmp_path):
    """Two runs of the same numbers, one of them without replies."""
    log = [
        {"agent_id": f"persona_{agent}", "round": month, "action": "harvesting", "resource_collected": 0,
         "resource_in_pool_before_harvesting": 100, "resource_in_pool_after_harvesting": 100, "wanted_resource": 0}
        for month in range(12) for agent in range(2)
    ]  # fmt: skip
    (tmp_path / "runs").write_text("".join(json.dumps({"run": run, "log": log}) + "\n" for run in ("mute", "fine")))
    replies = [
        {"run": run, "month": month, "agent": f"persona_{agent}", "reply": "Answer: 0" if run == "fine" else None}
        for run in ("mute", "fine") for month in range(1, 13) for agent in range(2)
    ]  # fmt: skip
    (tmp_path / "replies").write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    ctx = LocalContext(tmp_path / "out", inputs={SOURCE: tmp_path / "runs", REPLIES: tmp_path / "replies"})
    result = analyse(AnalyseParams(sources=[SOURCE], replies=REPLIES), ctx)
    ctx.close()
    assert [(run.invalid, run.parse_failure_rate, run.survival_time) for run in result.runs] == [
        (True, 1.0, 12), (False, 0.0, 12),
    ]  # fmt: skip
    assert (result.groups[0].runs, result.groups[0].invalid_runs) == (1, 1)


@pytest.mark.parametrize("allocation", ["stochastic", "proportional"])
def test_trap_2_the_allocation_accepts_demands_above_the_stock(play, allocation):
    _, batch = play(policies=[fixed(q) for q in (150, 101, 10, 10, 10)], allocation=allocation, runs=50)
    assert (batch.granted[:, 0].sum(axis=1) == 100).all()
    assert (batch.demanded[:, 0] == [150, 101, 10, 10, 10]).all()  # named as asked, not clamped


@pytest.mark.parametrize(
    ("official", "month", "expected"),
    [
        pytest.param(True, 0, 10, id="official-literal-10-in-month-1"),
        pytest.param(True, 5, 12, id="official-divides-by-the-starting-4-for-ever"),
        pytest.param(False, 0, 12, id="present-4"),
        pytest.param(False, 3, 10, id="present-5-once-the-newcomer-is-there"),
    ],
)
def test_trap_3_the_threshold_divides_by_who_is_present(official, month, expected):
    rule = ThresholdRule(Membership(5, 3), growth=2, official=official)
    assert rule.per_agent(stock(100), month)[0] == expected


def test_trap_3_agents_who_obey_the_official_threshold_lose_stock_and_those_of_the_present_one_do_not(play):
    _, official = play(experiment="newcomer", threshold_agents="official", runs=1)
    _, current = play(experiment="newcomer", runs=1)
    assert official.before[0, 4:9].tolist() == [80, 60, 50, 40, 30]
    assert current.before[0].tolist() == [100] * 15


def test_trap_5_the_seed_reaches_the_lottery(play):
    greedy = {"policies": {"type": "greedy"}, "runs": 20}
    _, one = play(**greedy)
    _, again = play(**greedy)
    _, other = play(**greedy, seed=43)
    assert (one.granted == again.granted).all()
    assert (one.granted != other.granted).any()
    assert len({tuple(grants) for grants in one.granted[:, 0].tolist()}) > 15  # and differs between runs


@pytest.mark.parametrize(
    ("after", "collapsed", "next_stock"),
    [
        pytest.param(5, False, 10, id="exactly-5-is-alive"),
        pytest.param(4, True, 8, id="4-is-lost-though-8-would-follow"),
        pytest.param(0, True, 0, id="empty"),
        pytest.param(60, False, 100, id="doubled-then-capped"),
    ],
)
def test_trap_7_collapse_is_tested_before_growth_and_below_5(after, collapsed, next_stock):
    commons = Commons(capacity=100, start=100, growth=2, collapse_below=5)
    assert commons.has_collapsed(stock(after))[0] == collapsed
    assert commons.grow(stock(after))[0] == next_stock


def test_trap_7_the_last_month_ends_a_run_whatever_is_left(play):
    _, batch = play(months=3, runs=1)
    assert batch.played[0] == 3
    assert batch.after[0].tolist() == [50, 50, 50]


def test_trap_8_a_logged_utterance_carries_no_other_agents_prompt(tmp_path):
    ctx = LocalContext(tmp_path)
    simulate(SimulateParams(runs=1), ctx)
    ctx.close()
    with tarfile.open(tmp_path / "log_env.tar") as tar:
        records = json.load(tar.extractfile(tar.getmembers()[0]))
    for record in records:
        assert record["html_interactions"] is None  # scripted agents have no prompt to pair
        if record["action"] == "utterance" and record["agent_id"] != "framework":
            assert record["agent_name"] == ["John", "Kate", "Jack", "Emma", "Luke"][int(record["agent_id"][-1])]


def test_trap_9_equality_of_the_greedy_is_lottery_noise(play):
    params, batch = play(policies={"type": "greedy"}, runs=4_000)
    equality = measure(batch, conditions_of(params)).equality
    assert equality.mean() == pytest.approx(0.8996, abs=4 * 0.037 / np.sqrt(4_000))
    assert equality.std() == pytest.approx(0.037, abs=0.002)


def test_trap_10_an_interrupted_run_counts_neither_as_surviving_nor_as_collapsed(tmp_path):
    log = [
        {"agent_id": "persona_0", "round": 0, "action": "harvesting", "resource_in_pool_before_harvesting": 100,
         "resource_in_pool_after_harvesting": 60, "resource_collected": 40, "wanted_resource": 40}
    ]  # fmt: skip
    (tmp_path / "log").write_text(json.dumps(log))
    ctx = LocalContext(tmp_path / "out", inputs={SOURCE: tmp_path / "log"})
    result = analyse(AnalyseParams(sources=[SOURCE]), ctx)
    ctx.close()
    assert (result.groups, len(result.rejected)) == ([], 1)


def test_trap_11_no_month_follows_a_collapse_though_the_stock_would_double(play):
    _, batch = play(policies=[*[fixed(19)] * 4, fixed(20)], runs=1)
    assert (batch.played[0], batch.after[0, 0], batch.before[0, 1]) == (1, 4, 0)


def test_a_run_emptied_in_its_last_month_lives_twelve_months_and_does_not_survive(play):
    demands = [*[10] * 11, 20]
    params, batch = play(policies={"type": "replay", "demands": demands}, runs=1)
    measured = measure(batch, conditions_of(params))
    assert (measured.survival_time[0], measured.survived[0]) == (12, False)
    assert measured.gain[0] == 130  # the true optimum, beyond the tables' "maximum" of 120
    assert measured.efficiency[0] == 1
