"""What GOVSIM's kinds take and refuse."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from shared.jobs.catalog import catalog
from shared.jobs.catalog.govsim import (
    PERSONAS,
    AnalyseParams,
    Metrics,
    RunOutcome,
    SimulateParams,
    SimulateResult,
    Threshold,
)

FILE = "file:" + "a" * 64


def test_the_defaults_are_the_papers():
    params = SimulateParams()
    assert params.model_dump() == {
        "scenario": "fishery", "experiment": "default", "agents": 5, "names": ["John", "Kate", "Jack", "Emma", "Luke"],
        "months": 12, "capacity": 100, "start": 100, "growth": 2, "collapse_below": 5, "allocation": "stochastic",
        "order": "concurrent", "universalization": False, "communication": True, "report": "moderator",
        "newcomer_month": 3, "threshold_agents": "current", "max_conversation_steps": 10,
        "policies": [{"type": "threshold"}], "runs": 5, "seed": 42,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        pytest.param({"experiment": "newcomer"}, "months", 15, id="newcomer-lasts-15-months"),
        pytest.param({"experiment": "newcomer", "months": 8}, "months", 8, id="unless-said-otherwise"),
        pytest.param({"experiment": "universalization"}, "universalization", True, id="universalization-sets-its-flag"),
        pytest.param({"experiment": "no_communication"}, "communication", False, id="no-communication-sets-its-flag"),
        pytest.param({"universalization": True}, "experiment", "universalization", id="flag-names-the-experiment"),
        pytest.param({"communication": False}, "experiment", "no_communication", id="other-flag-too"),
        pytest.param({"capacity": 50}, "start", 50, id="starts-full"),
        pytest.param({"agents": 7}, "names", [*PERSONAS, "Person 6", "Person 7"], id="more-names"),
        pytest.param({"agents": 2}, "names", ["John", "Kate"], id="fewer-names"),
        pytest.param({"policies": {"type": "threshold"}}, "policies", [Threshold()], id="one-policy-for-all"),
    ],
)
def test_defaults_follow_from_what_is_given(given, field, expected):
    assert getattr(SimulateParams(**given), field) == expected


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="default"),
        pytest.param({"experiment": "newcomer", "universalization": True}, id="newcomer-universalization"),
        pytest.param({"communication": False, "universalization": True}, id="both-flags"),
        pytest.param({"agents": 100, "capacity": 10**6, "months": 1_000, "runs": 100_000}, id="all-bounds"),
        pytest.param({"agents": 1, "months": 1, "capacity": 1, "collapse_below": 1, "runs": 1}, id="smallest"),
        pytest.param(
            {
                "agents": 2,
                "policies": [
                    {"type": "random", "low": 0, "high": 2, "unit": "threshold"},
                    {"type": "greedy", "factor": 1.5},
                ],
            },
            id="mixed",
        ),
    ],
)
def test_stored_params_validate_to_themselves(given):
    params = SimulateParams(**given)
    assert SimulateParams.model_validate_json(params.model_dump_json()) == params


@pytest.mark.parametrize(
    ("given", "where", "says"),
    [
        pytest.param(
            {"scenario": "forest"}, ("scenario",), "'fishery', 'pasture' or 'pollution'", id="unknown-scenario"
        ),
        pytest.param({"experiment": "paraphrase"}, ("experiment",), "'newcomer'", id="experiment-of-language"),
        pytest.param(
            {"policies": [{"type": "threshold"}] * 3}, ("policies",), "give one for all or a list", id="count"
        ),
        pytest.param({"policies": []}, ("policies",), "at least 1", id="no-policy"),
        pytest.param({"policies": {"type": "bully"}}, ("policies", 0), "'tit_for_tat'", id="unknown-policy"),
        pytest.param({"start": 101}, ("start",), "lower start or raise capacity", id="start-above-capacity"),
        pytest.param(
            {"start": 40, "collapse_below": 41}, ("collapse_below",), "give at most 40", id="bound-above-start"
        ),
        pytest.param(
            {"policies": {"type": "replay", "demands": []}},
            ("policies", 0, "replay", "demands"),
            "at least 1",
            id="empty-replay",
        ),
        pytest.param(
            {"policies": {"type": "replay", "demands": [3, -1]}},
            ("policies", 0, "replay", "demands", 1),
            "greater than or equal to 0",
            id="negative-replay",
        ),
        pytest.param(
            {"policies": {"type": "fixed", "quantity": -1}},
            ("policies", 0, "fixed", "quantity"),
            "greater than or equal to 0",
            id="negative-quantity",
        ),
        pytest.param(
            {"policies": {"type": "random", "low": 5, "high": 4}},
            ("policies", 0, "random", "high"),
            "give high of at least 5",
            id="empty-range",
        ),
        pytest.param(
            {"experiment": "newcomer", "newcomer_month": 15}, ("newcomer_month",), "give 1 to 14", id="too-late"
        ),
        pytest.param({"newcomer_month": 5}, ("newcomer_month",), "choose experiment newcomer", id="no-newcomer"),
        pytest.param({"experiment": "newcomer", "agents": 1}, ("agents",), "at least 2", id="nobody-to-join"),
        pytest.param(
            {"experiment": "default", "universalization": True},
            ("universalization",),
            "contradicts experiment",
            id="flag-against-default",
        ),
        pytest.param(
            {"experiment": "universalization", "universalization": False},
            ("universalization",),
            "leave",
            id="flag-against-universalization",
        ),
        pytest.param(
            {"experiment": "no_communication", "communication": True},
            ("communication",),
            "contradicts",
            id="flag-against-no-communication",
        ),
        pytest.param({"scenario": "pasture", "report": "individual"}, ("report",), "fishery only", id="report"),
        pytest.param({"names": ["A", "B"]}, ("names",), "give one per agent", id="too-few-names"),
        pytest.param({"agents": 2, "names": ["A", "A"]}, ("names",), "make each different", id="same-name"),
        pytest.param({"agents": 101}, ("agents",), "less than or equal to 100", id="agents"),
        pytest.param({"months": 1_001}, ("months",), "less than or equal to 1000", id="months"),
        pytest.param({"capacity": 10**6 + 1}, ("capacity",), "less than or equal to 1000000", id="capacity"),
        pytest.param({"runs": 100_001}, ("runs",), "less than or equal to 100000", id="runs"),
        pytest.param({"agents": 0}, ("agents",), "greater than or equal to 1", id="no-agents"),
        pytest.param({"temperature": 0.5}, ("temperature",), "not permitted", id="unknown-field"),
    ],
)
def test_wrong_params_are_refused_at_the_field_with_a_remedy(given, where, says):
    with pytest.raises(ValidationError) as refused:
        SimulateParams(**given)
    (error,) = refused.value.errors()
    assert error["loc"] == where
    assert says in error["msg"]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        pytest.param({"sources": []}, ("sources",), id="no-source"),
        pytest.param({"sources": ["/etc/passwd"]}, ("sources", 0), id="a-path"),
        pytest.param({"sources": ["hub:org/name"]}, ("sources", 0), id="a-model"),
        pytest.param({"sources": [FILE], "labels": ["a", "b"]}, ("labels",), id="labels"),
        pytest.param({"sources": [FILE], "max_parse_failure_rate": 1.5}, ("max_parse_failure_rate",), id="rate"),
    ],
)
def test_analyse_refuses_what_it_cannot_read(given, where):
    with pytest.raises(ValidationError) as refused:
        AnalyseParams(**given)
    assert refused.value.errors()[0]["loc"] == where


@pytest.mark.parametrize("kind", ["govsim.simulate", "govsim.analyse"])
def test_every_field_is_described(kind):
    for schema in (catalog()[kind].params_schema(), catalog()[kind].result_schema()):
        for model in (schema, *schema.get("$defs", {}).values()):
            for name, field in model.get("properties", {}).items():
                assert "description" in field, name


def test_the_kinds_are_in_their_pools():
    assert {kind: spec.pool for kind, spec in catalog().items() if spec.method == "govsim"} == {
        "govsim.simulate": "sim",
        "govsim.analyse": "cpu",
    }


def test_a_bare_policy_and_a_list_are_both_in_the_schema():
    one, many = SimulateParams.model_json_schema()["properties"]["policies"]["anyOf"]
    assert one["discriminator"]["propertyName"] == "type"
    assert many["items"] == one


def test_the_result_carries_the_papers_metrics_and_runs():
    metrics = {"survival_time", "survival_rate", "gain", "efficiency", "equality", "over_usage", "over_usage_published"}
    assert metrics <= set(Metrics.model_fields)
    assert {"survival_time", "gains", "pool", "granted", "demanded"} <= set(RunOutcome.model_fields)
    assert set(SimulateResult.model_fields) == {*Metrics.model_fields, "runs"}


def test_importing_the_catalog_loads_no_numbers():
    heavy = "[name for name in ('numpy', 'ray', 'scipy', 'torch') if name in sys.modules]"
    code = f"import sys, shared.jobs.catalog.govsim; print({heavy})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
