"""36 published runs of real model societies: imported, measured, replayed."""

import json

import pytest

from shared.jobs.catalog.govsim import AnalyseParams, SimulateParams
from shared.jobs.local import LocalContext
from workers.govsim.jobs import analyse, simulate

RUNS, REPLIES = "file:" + "a" * 64, "file:" + "b" * 64


def analysed(real_data, folder, **params):
    inputs = {RUNS: real_data / "runs.jsonl", REPLIES: real_data / "harvest_replies.jsonl"}
    ctx = LocalContext(folder, inputs=inputs)
    result = analyse(AnalyseParams(sources=[RUNS], **params), ctx)
    ctx.close()
    return result


@pytest.fixture(scope="module")
def plain(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return analysed(real_data, folder), [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def judged(real_data, tmp_path_factory):
    return analysed(real_data, tmp_path_factory.mktemp("judged"), replies=REPLIES)


@pytest.fixture(scope="module")
def expected(real_data):
    return json.loads((real_data / "expected_metrics.json").read_text())


def test_every_run_has_the_expected_metrics(plain, expected):
    result, lines = plain
    assert len(result.runs) == len(lines) == len(expected["runs"]) == 36
    lines = {line["run"]: line for line in lines}
    for run, said in ((run, lines[run.run]) for run in result.runs):
        wanted = next(entry for entry in expected["runs"] if entry["run"] == run.run)
        assert run.survival_time == wanted["survival_time"]
        assert run.survived is not wanted["collapsed"]
        assert run.gains == list(wanted["gains"].values())
        assert run.gain == pytest.approx(wanted["mean_gain"], abs=1e-6)
        assert run.efficiency == pytest.approx(wanted["efficiency"], abs=1e-6)
        assert run.equality == pytest.approx(wanted["equality"], abs=1e-6)
        assert run.over_usage == pytest.approx(wanted["over_actions"] / wanted["harvest_actions"])
        assert run.over_usage == pytest.approx(wanted["over_usage"], abs=1e-6)
        assert run.over_usage_demanded == pytest.approx(wanted["over_actions_wanted"] / wanted["harvest_actions"])
        assert run.over_usage_published == pytest.approx(wanted["over_usage_published_convention"], abs=1e-6)
        assert sum(said["utterances"]) == wanted["agent_utterances"]
        assert run.pool == [list(pair) for pair in zip(wanted["pool_before"], wanted["pool_after"], strict=True)]
        assert said["monthly_gini"] == pytest.approx(wanted["monthly_gini"], abs=0.005 + 1e-9)  # given to 2 decimals


def test_every_group_has_the_expected_statistics(plain, expected):
    groups = {group.group: group for group in plain[0].groups}
    ours = {"survival_time": "survival_time", "mean_gain": "gain", "efficiency": "efficiency", "equality": "equality",
            "over_usage": "over_usage"}  # fmt: skip
    for name, wanted in expected["groups"].items():
        group = groups[name]
        assert group.runs == wanted["runs"]
        assert group.survival_rate.mean == pytest.approx(wanted["survival_rate"], abs=1e-6)
        for theirs, field in ours.items():
            statistic = getattr(group, field)
            # theirs were computed from run values rounded to six decimals; the interval multiplies that by up to 12.7
            assert statistic.mean == pytest.approx(wanted[theirs]["mean"], abs=2e-6), (name, field)
            assert statistic.std_population == pytest.approx(wanted[theirs]["std_pop"], abs=2e-6), (name, field)
            assert statistic.std == pytest.approx(wanted[theirs]["std_sample"], abs=2e-6), (name, field)
            assert statistic.ci95 == pytest.approx(wanted[theirs]["ci95_half"], abs=3e-5), (name, field)


@pytest.mark.parametrize(
    ("run", "time", "total", "equality", "over", "published"),
    [
        pytest.param("gallant-snowball-155", 8, 291, 0.939519, 14 / 40, 0.125, id="gallant-snowball-155"),
        pytest.param("crimson-bush-40", 2, 114, 0.835088, 8 / 10, 0.285714, id="crimson-bush-40"),
        pytest.param("dry-river-3", 12, 452, None, 9 / 60, None, id="dry-river-3"),
    ],
)
def test_examples_of_the_published_runs(plain, run, time, total, equality, over, published):
    found = next(entry for entry in plain[0].runs if entry.run == run)
    assert (found.survival_time, sum(found.gains)) == (time, total)
    assert found.over_usage == pytest.approx(over)
    if equality is not None:
        assert found.equality == pytest.approx(equality, abs=5e-7)
        assert found.over_usage_published == pytest.approx(published, abs=5e-7)


def test_a_run_without_a_single_reply_is_invalid_and_enters_no_mean(judged, plain):
    run = next(run for run in judged.runs if run.run == "vivid-galaxy-17")
    assert run.invalid
    assert run.parse_failure_rate == 1.0
    assert (run.survival_time, run.gains) == (12, [0] * 5)  # its own metrics stay
    group = next(group for group in judged.groups if group.group == run.group)
    assert (group.runs, group.invalid_runs, group.survival_rate.mean) == (1, 1, 0.0)
    before = next(group for group in plain[0].groups if group.group == run.group)
    assert (before.runs, before.survival_rate.mean) == (2, 0.5)  # what trusting it would have said


def test_failure_rates_count_empty_replies_and_those_without_a_marker(judged):
    rates = {run.run: run.parse_failure_rate for run in judged.runs}
    actions = {run.run: sum(map(len, run.granted)) for run in judged.runs}
    failures = sum(round(rate * actions[run]) for run, rate in rates.items())
    assert failures == 60 + 54 + 7  # no text, no marker, no number after the marker
    assert {run for run, rate in rates.items() if rate > 0.2} == {
        "vivid-galaxy-17", "dainty-dawn-131", "electric-aardvark-162", "pleasant-firefly-143", "still-sound-25",
    }  # fmt: skip


def test_the_bound_of_invalid_runs_can_be_set(real_data, tmp_path):
    result = analysed(real_data, tmp_path, replies=REPLIES, max_parse_failure_rate=1.0)
    assert not any(run.invalid for run in result.runs)


def replay(demands, folder):
    ctx = LocalContext(folder)
    policies = [{"type": "replay", "demands": list(own)} for own in demands]
    result = simulate(SimulateParams(policies=policies, runs=1), ctx)
    ctx.close()
    return result


def test_replaying_the_demands_gives_the_trajectory_up_to_the_first_lottery(plain, tmp_path):
    replayed = whole = 0
    for run in plain[0].runs:
        (again,) = replay(zip(*run.demanded, strict=True), tmp_path / run.run).runs
        certain = [sum(wanted) <= before for wanted, (before, _) in zip(run.demanded, run.pool, strict=True)]
        months = certain.index(False) if False in certain else len(certain)
        assert again.granted[:months] == run.granted[:months]
        assert again.pool == run.pool  # a lottery hands out everything, whoever gets it
        assert again.demanded == run.demanded
        whole += months == len(run.pool)
        replayed += 1
    assert (replayed, whole) == (36, 19)


def test_what_real_logs_show_holds_for_every_month(plain):
    for run in plain[0].runs:
        for month, (before, after) in enumerate(run.pool):
            assert before - after == sum(run.granted[month]) == min(sum(run.demanded[month]), before)
            assert all(got <= asked for got, asked in zip(run.granted[month], run.demanded[month], strict=True))
            if month + 1 < len(run.pool):
                assert run.pool[month + 1][0] == min(100, 2 * after)
