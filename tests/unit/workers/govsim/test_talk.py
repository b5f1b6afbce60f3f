"""Scripted talk: one round, the threshold proposed and agreed, counted as what it is."""

import numpy as np
import pytest

from workers.govsim.imported import ImportedRun
from workers.govsim.log_env import records_of
from workers.govsim.records import describe
from workers.govsim.society import conditions_of
from workers.govsim.talk import talk_of
from workers.govsim.trajectories import measure


def log_of(play, **params):
    """The records of the first run, and its parameters and batch."""
    params, batch = play(runs=1, **params)
    played = int(batch.played[0])
    present = [conditions_of(params).membership.present(month) for month in range(played)]
    run = ImportedRun(
        "0", "g", conditions_of(params), describe(params),
        pool=np.stack([batch.before[0], batch.after[0]], axis=1)[:played].tolist(),
        demanded=[batch.demanded[0, month, :there].tolist() for month, there in enumerate(present)],
        granted=[batch.granted[0, month, :there].tolist() for month, there in enumerate(present)],
        utterances=batch.utterances[0, :played].tolist(),
        limit=[None if limit < 0 else limit for limit in batch.limit[0, :played].tolist()],
    )  # fmt: skip
    return records_of(run), params, batch


def said(records, month=0):
    return [
        (record["agent_id"], record["utterance"])
        for record in records
        if record["action"] == "utterance" and record["round"] == month
    ]


def test_the_moderator_reports_grants_then_each_agent_speaks_once(play):
    policies = [{"type": "fixed", "quantity": 3}, {"type": "fixed", "quantity": 200}]
    records, _, _ = log_of(play, agents=2, policies=policies, months=1)
    spoken = said(records)
    assert [who for who, _ in spoken] == ["framework", "persona_0", "persona_1"]
    report = spoken[0][1]
    assert "John caught 3 tons of fish." in report
    assert "200" not in report  # demands stay private
    assert spoken[1][1] == spoken[2][1] == "I propose that nobody takes more than 25 tons of fish a month."


def test_the_agreed_limit_is_the_months_threshold(play):
    records, _, batch = log_of(play, policies={"type": "fixed", "quantity": 12})
    limits = [record["resource_limit"] for record in records if record["action"] == "conversation_resource_limit"]
    assert limits == batch.threshold[0, :3].tolist() == [10, 8, 4]


@pytest.mark.parametrize(
    ("params", "utterances"),
    [
        pytest.param({}, 5, id="five-agents"),
        pytest.param({"agents": 30, "capacity": 600}, 9, id="cut-at-ten-steps-report-included"),
        pytest.param({"agents": 30, "capacity": 600, "report": "none"}, 10, id="no-report-ten-utterances"),
        pytest.param({"max_conversation_steps": 3}, 2, id="shorter"),
        pytest.param({"report": "individual"}, 5, id="everyone-reports-itself"),
        pytest.param({"communication": False}, 0, id="silence"),
    ],
)
def test_the_log_and_the_published_counting_agree_on_utterances(play, params, utterances):
    records, params, batch = log_of(play, months=2, **params)
    for month in range(2):
        assert sum(who != "framework" for who, _ in said(records, month)) == utterances
    assert batch.utterances[0].tolist() == [utterances] * 2
    assert talk_of(params).speakers(params.agents) == utterances


def test_over_usage_as_published_counts_the_scripted_utterances(play):
    params, batch = play(policies={"type": "greedy"}, runs=1)
    measured = measure(batch, conditions_of(params))
    assert measured.over_usage[0] == 1.0
    assert measured.over_usage_published[0] == 5 / (5 + 5)
    params, batch = play(policies={"type": "greedy"}, runs=1, communication=False)
    assert measure(batch, conditions_of(params)).over_usage_published[0] == 1.0


def test_the_collapsing_month_is_discussed_too(play):
    records, _, _ = log_of(play, policies={"type": "greedy"})
    assert len(said(records)) == 6


def test_individual_reports_open_each_sentence(play):
    records, _, _ = log_of(play, report="individual", months=1)
    assert said(records)[1][1].startswith("Kate caught 10 tons of fish. I propose")


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        pytest.param("fishery", "caught 10 tons of fish", id="fishery"),
        pytest.param("pasture", "grazed 10 flocks", id="pasture"),
        pytest.param("pollution", "produced 10 pallets of widgets", id="pollution"),
    ],
)
def test_the_scenarios_differ_in_words(play, scenario, words):
    records, _, _ = log_of(play, scenario=scenario, months=1)
    assert words in said(records)[0][1]


def test_a_newcomer_speaks_from_its_month_on(play):
    records, _, batch = log_of(play, experiment="newcomer")
    assert [len(said(records, month)) for month in (2, 3)] == [1 + 4, 1 + 5]
    assert batch.utterances[0, 2:4].tolist() == [4, 5]
