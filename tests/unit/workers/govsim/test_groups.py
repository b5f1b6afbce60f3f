"""Conditions that may give different numbers never enter the same mean."""

import json

import pytest

from shared.jobs.catalog.govsim import AnalyseParams, SimulateParams
from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from workers.govsim.jobs import analyse, simulate
from workers.govsim.records import IN_NAME, describe, group_name

SOURCES = ["file:" + letter * 64 for letter in "ab"]
LLM = {"type": "llm", "model": "endpoint:test/model"}

OTHER_VALUES = [  # one per field, with what it needs beside it
    pytest.param({"months": 6}, {}, id="months"),
    pytest.param({"capacity": 200}, {"start": 100}, id="capacity"),
    pytest.param({"start": 50}, {}, id="start"),
    pytest.param({"growth": 3}, {}, id="growth"),
    pytest.param({"collapse_below": 4}, {}, id="collapse_below"),
    pytest.param({"allocation": "proportional"}, {}, id="allocation"),
    pytest.param({"order": "sequential"}, {}, id="order"),
    pytest.param({"universalization": True}, {"experiment": "no_communication"}, id="universalization"),
    pytest.param({"communication": False}, {"experiment": "universalization"}, id="communication"),
    pytest.param({"communication": False}, {"experiment": "newcomer"}, id="communication-newcomer"),
    pytest.param({"report": "none"}, {}, id="report"),
    pytest.param({"newcomer_month": 2}, {"experiment": "newcomer"}, id="newcomer_month"),
    pytest.param({"threshold_agents": "official"}, {}, id="threshold_agents"),
    pytest.param({"max_conversation_steps": 4}, {}, id="max_conversation_steps"),
    pytest.param({"framework_model": "endpoint:test/other"}, {}, id="framework_model"),
    pytest.param({"rules_variant": 2}, {"experiment": "paraphrase"}, id="rules_variant"),
    pytest.param({"top_k_harvest": 3}, {}, id="top_k_harvest"),
    pytest.param({"top_k_utterance": 3}, {}, id="top_k_utterance"),
    pytest.param({"top_k_reflect": 3}, {}, id="top_k_reflect"),
    pytest.param({"recency_weight": 1.0}, {}, id="recency_weight"),
    pytest.param({"importance_weight": 1.0}, {}, id="importance_weight"),
    pytest.param({"relevance_weight": 1.0}, {}, id="relevance_weight"),
    pytest.param({"recency_decay": 0.9}, {}, id="recency_decay"),
    pytest.param({"recency_order": "newest_first"}, {}, id="recency_order"),
    pytest.param({"thought_days": 31}, {}, id="thought_days"),
    pytest.param({"memory_encoder": "hub:some/encoder"}, {}, id="memory_encoder"),
    pytest.param({"rate_chats": False}, {}, id="rate_chats"),
    pytest.param({"temperature": 0.7}, {}, id="temperature"),
    pytest.param({"top_p": 0.9}, {}, id="top_p"),
    pytest.param({"max_tokens": 100}, {}, id="max_tokens"),
    pytest.param({"max_tokens_rating": 10}, {}, id="max_tokens_rating"),
    pytest.param({"parser": "official"}, {}, id="parser"),
    pytest.param({"max_parse_failure_rate": 0.5}, {}, id="max_parse_failure_rate"),
]


@pytest.mark.parametrize(("change", "beside"), OTHER_VALUES)
def test_a_field_that_is_set_otherwise_makes_another_group_and_stands_in_the_condition(change, beside):
    usual, changed = (SimulateParams(policies=LLM, **{**beside, **more}) for more in ({}, change))
    assert group_name(usual) != group_name(changed)
    assert describe(usual) | {"group": ""} != describe(changed) | {"group": ""}


def test_every_field_of_a_condition_is_among_those_tested():
    tested = {name for row in OTHER_VALUES for name in row.values[0]}
    assert tested == set(SimulateParams.model_fields) - IN_NAME


@pytest.mark.parametrize(
    ("params", "name"),
    [
        pytest.param({}, "fishery default | threshold ×5", id="default"),
        pytest.param({"experiment": "newcomer"}, "fishery newcomer | threshold ×5", id="what-an-experiment-implies"),
        pytest.param({"agents": 2, "months": 3}, "fishery default | threshold ×2 | months 3", id="a-field"),
        pytest.param(
            {"experiment": "universalization", "communication": False, "allocation": "proportional"},
            "fishery universalization | threshold ×5 | allocation proportional, communication false", id="two-fields",
        ),
        pytest.param({"names": list("ABCDE"), "seed": 1}, "fishery default | threshold ×5", id="no-condition"),
        pytest.param({"temperature": 0.7}, "fishery default | threshold ×5", id="nothing-to-scripted-agents"),
    ],
)  # fmt: skip
def test_a_group_is_named_by_what_differs_from_its_experiment(params, name):
    assert group_name(SimulateParams(**params)) == name


def test_long_replays_that_begin_alike_have_different_names():
    one, other = ([*range(9), last] for last in (1, 2))
    names = {group_name(SimulateParams(policies={"type": "replay", "demands": demands})) for demands in (one, other)}
    assert len(names) == 2


def simulated(tmp_path, *conditions):
    """The runs.jsonl of a job per condition, as inputs."""
    inputs = {}
    for source, params in zip(SOURCES, conditions, strict=False):
        ctx = LocalContext(tmp_path / source[-1])
        simulate(SimulateParams(runs=2, policies={"type": "greedy"}, **params), ctx)
        ctx.close()
        inputs[source] = tmp_path / source[-1] / "runs.jsonl"
    return inputs


def analysed(tmp_path, inputs, **params):
    ctx = LocalContext(tmp_path / "out", inputs=inputs)
    try:
        return analyse(AnalyseParams(sources=list(inputs), **params), ctx)
    finally:
        ctx.close()


def test_two_conditions_of_one_experiment_are_analysed_apart(tmp_path):
    inputs = simulated(
        tmp_path,
        {"experiment": "universalization"},
        {"experiment": "universalization", "communication": False},
    )
    assert [group.runs for group in analysed(tmp_path, inputs).groups] == [2, 2]


def test_a_label_pools_scenarios_on_purpose(tmp_path):
    inputs = simulated(tmp_path, {"scenario": "fishery"}, {"scenario": "pasture"})
    (group,) = analysed(tmp_path, inputs, labels=["all", "all"]).groups
    assert (group.group, group.runs) == ("all", 4)


def test_runs_that_share_a_name_and_not_their_condition_are_refused(tmp_path):
    """As lines whose group somebody renamed, or a name made by an earlier version."""
    inputs = simulated(tmp_path, {"allocation": "stochastic"}, {"allocation": "proportional"})
    for path in inputs.values():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["condition"]["group"] = "mine"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InvalidInput, match=r"other conditions \(allocation\) .* label of its own"):
        analysed(tmp_path, inputs)
