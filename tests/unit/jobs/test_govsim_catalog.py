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
    SubskillsParams,
    Threshold,
    TrainCloneParams,
)

FILE = "file:" + "a" * 64
LLM = {"type": "llm", "model": "endpoint:lab/m"}


def test_the_defaults_are_the_papers():
    params = SimulateParams()
    assert params.model_dump() == {
        "scenario": "fishery", "experiment": "default", "agents": 5, "names": ["John", "Kate", "Jack", "Emma", "Luke"],
        "months": 12, "capacity": 100, "start": 100, "growth": 2, "collapse_below": 5, "allocation": "stochastic",
        "order": "concurrent", "universalization": False, "communication": True, "report": "moderator",
        "newcomer_month": 3, "threshold_agents": "current", "max_conversation_steps": 10,
        "policies": {"type": "threshold"}, "framework_model": None, "rules_variant": None, "top_k_harvest": 10,
        "top_k_utterance": 5, "top_k_reflect": 10, "recency_weight": 0.5, "importance_weight": 3.0,
        "relevance_weight": 2.0, "recency_decay": 0.99, "recency_order": "oldest_first", "thought_days": 63,
        "memory_encoder": "builtin:minilm", "rate_chats": True, "temperature": 0.0, "top_p": 1.0, "max_tokens": 8000,
        "max_tokens_rating": 1000, "parser": "strict", "max_parse_failure_rate": 0.2, "runs": 5, "seed": 42,
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
        pytest.param({"policies": {"type": "threshold"}}, "policies", Threshold(), id="one-policy-for-all"),
        pytest.param({"scenario": "pollution"}, "top_k_harvest", 14, id="pollution-remembers-more"),
        pytest.param({"scenario": "pollution", "top_k_harvest": 3}, "top_k_harvest", 3, id="or-as-said"),
        pytest.param({"policies": LLM}, "framework_model", "endpoint:lab/m", id="the-agents-model-is-the-frameworks"),
        pytest.param(
            {"agents": 2, "policies": [{"type": "threshold"}, LLM]}, "framework_model", "endpoint:lab/m", id="the-first"
        ),
        pytest.param(
            {"policies": LLM, "framework_model": "hub:org/x"}, "framework_model", "hub:org/x", id="or-another-model"
        ),
        pytest.param({"policies": LLM, "experiment": "paraphrase"}, "rules_variant", 1, id="the-first-paraphrase"),
        pytest.param({"experiment": "newcomer_universalization"}, "universalization", True, id="both-at-once"),
        pytest.param({"experiment": "newcomer_universalization"}, "months", 15, id="lasts-15-months-too"),
        pytest.param(
            {"experiment": "newcomer", "universalization": True},
            "experiment",
            "newcomer_universalization",
            id="one-name-for-one-condition",
        ),
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
        pytest.param({"agents": 1, "policies": [{"type": "greedy"}]}, id="a-list-for-one-agent"),
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
        pytest.param({"experiment": "elections"}, ("experiment",), "'newcomer'", id="unknown-experiment"),
        pytest.param({"experiment": None}, ("experiment",), "'newcomer'", id="no-experiment"),
        pytest.param({"policies": [{"type": "threshold"}] * 3}, ("policies",), "or a list of 5", id="count"),
        pytest.param(
            {"policies": [{"type": "threshold"}]}, ("policies",), "for all without the brackets", id="one-in-a-list"
        ),
        pytest.param({"policies": []}, ("policies", "each"), "at least 1", id="no-policy"),
        pytest.param({"policies": {"type": "bully"}}, ("policies", "one"), "'tit_for_tat'", id="unknown-policy"),
        pytest.param({"start": 101}, ("start",), "lower start or raise capacity", id="start-above-capacity"),
        pytest.param(
            {"start": 40, "collapse_below": 41}, ("collapse_below",), "give at most 40", id="bound-above-start"
        ),
        pytest.param(
            {"policies": {"type": "replay", "demands": []}},
            ("policies", "one", "replay", "demands"),
            "at least 1",
            id="empty-replay",
        ),
        pytest.param(
            {"policies": {"type": "replay", "demands": [3, -1]}},
            ("policies", "one", "replay", "demands", 1),
            "greater than or equal to 0",
            id="negative-replay",
        ),
        pytest.param(
            {"policies": {"type": "fixed", "quantity": -1}},
            ("policies", "one", "fixed", "quantity"),
            "greater than or equal to 0",
            id="negative-quantity",
        ),
        pytest.param(
            {"policies": {"type": "random", "low": 5, "high": 4}},
            ("policies", "one", "random", "high"),
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
        pytest.param({"warmth": 0.5}, ("warmth",), "not permitted", id="unknown-field"),
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


@pytest.mark.parametrize("kind", ["govsim.simulate", "govsim.analyse", "govsim.subskills", "govsim.train_clone"])
def test_every_field_is_described(kind):
    for schema in (catalog()[kind].params_schema(), catalog()[kind].result_schema()):
        for model in (schema, *schema.get("$defs", {}).values()):
            for name, field in model.get("properties", {}).items():
                assert "description" in field, name


def test_the_kinds_are_in_their_pools():
    assert {kind: spec.pool for kind, spec in catalog().items() if spec.method == "govsim"} == {
        "govsim.simulate": "sim",
        "govsim.analyse": "cpu",
        "govsim.subskills": "sim",
        "govsim.train_clone": "gpu",
    }


def test_a_bare_policy_and_a_list_are_both_in_the_schema():
    one, many = SimulateParams.model_json_schema()["properties"]["policies"]["oneOf"]
    assert one["discriminator"]["propertyName"] == "type"
    assert many["items"] == one


def test_the_result_carries_the_papers_metrics_and_runs():
    metrics = {"survival_time", "survival_rate", "gain", "efficiency", "equality", "over_usage", "over_usage_published"}
    metrics |= {"over_usage_demanded"}
    assert metrics <= set(Metrics.model_fields)
    assert {"survival_time", "gains", "pool", "granted", "demanded"} <= set(RunOutcome.model_fields)
    assert set(SimulateResult.model_fields) == {
        *Metrics.model_fields, "runs", "invalid_runs", "fallback_rate", "model_calls", "tokens_in", "tokens_out",
    }  # fmt: skip


def test_importing_the_catalog_loads_no_numbers():
    heavy = "[name for name in ('numpy', 'ray', 'scipy', 'torch') if name in sys.modules]"
    code = f"import sys, shared.jobs.catalog.govsim; print({heavy})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


LANGUAGE_REFUSALS = [
    pytest.param(
        {"policies": LLM, "experiment": "default", "universalization": True}, ("universalization",),
        "leave universalization out or choose another experiment", id="flag-against-default",
    ),
    pytest.param(
        {"policies": LLM, "experiment": "paraphrase", "communication": False}, ("communication",),
        "choose another experiment", id="flag-against-paraphrase",
    ),
    pytest.param(
        {"experiment": "newcomer_universalization", "universalization": False}, ("universalization",),
        "choose another experiment", id="flag-against-newcomer-universalization",
    ),
    pytest.param({"rules_variant": 2}, ("rules_variant",), "or choose paraphrase", id="variant-without-paraphrase"),
    pytest.param(
        {"policies": LLM, "experiment": "paraphrase", "rules_variant": None}, ("rules_variant",), "give 1, 2 or 3",
        id="paraphrase-without-variant",
    ),
    pytest.param(
        {"policies": LLM, "experiment": "paraphrase", "rules_variant": 4}, ("rules_variant",), "1, 2 or 3",
        id="no-fourth-variant",
    ),
    pytest.param(
        {"policies": LLM, "experiment": "paraphrase", "scenario": "pasture"}, ("rules_variant",),
        "choose scenario fishery", id="paraphrase-of-another-scenario",
    ),
    pytest.param({"experiment": "paraphrase"}, (), "give one the policy llm", id="paraphrase-for-nobody"),
    pytest.param({"framework_model": "endpoint:lab/m"}, ("framework_model",), "give an agent", id="framework"),
    pytest.param({"policies": [LLM] * 4}, ("policies",), "or a list of 5", id="wrong-number"),
    pytest.param(
        {"policies": LLM, "experiment": "newcomer", "newcomer_month": 12, "months": 12}, ("newcomer_month",),
        "give 1 to 11", id="newcomer-after-the-last-month",
    ),
    pytest.param({"policies": {"type": "llm"}}, ("policies", "one", "llm", "model"), "required", id="no-model"),
    pytest.param(
        {"policies": {"type": "llm", "model": "gpt-4o"}}, ("policies", "one", "llm", "model"),
        "endpoint:<name>/<model>", id="no-reference",
    ),
    pytest.param(
        {"policies": {"type": "llm", "model": "secret:key"}}, ("policies", "one", "llm", "model"), "accepted",
        id="not-a-model",
    ),
    pytest.param(
        {"policies": LLM | {"parser": "loose"}}, ("policies", "one", "llm", "parser"), "official", id="parser"
    ),
    pytest.param({"policies": LLM, "runs": 10_001}, (), "give at most 10000 a job", id="too-many-talking-runs"),
    pytest.param({"policies": LLM, "top_p": 0}, ("top_p",), "greater than 0", id="empty-nucleus"),
    pytest.param({"policies": LLM, "recency_decay": 1.5}, ("recency_decay",), "less than or equal to 1", id="growth"),
    pytest.param(
        {"policies": LLM, "memory_encoder": "endpoint:lab/m"}, ("memory_encoder",), "builtin:<name>", id="no-encoder"
    ),
    pytest.param(
        {"policies": LLM, "scenario": "pasture", "report": "individual"}, ("report",), "fishery only", id="own-reports"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "where", "says"), LANGUAGE_REFUSALS)
def test_what_is_wrong_with_a_talking_society_is_said_with_its_field_and_remedy(given, where, says):
    with pytest.raises(ValidationError) as refused:
        SimulateParams(**given)
    errors = {tuple(error["loc"]): error["msg"] for error in refused.value.errors()}
    assert where in errors
    assert says in errors[where]


@pytest.mark.parametrize(
    ("given", "where", "says"),
    [
        pytest.param({}, ("model",), "required", id="no-model"),
        pytest.param({"model": "gpt"}, ("model",), "endpoint:<name>/<model>", id="no-reference"),
        pytest.param({"tests": []}, ("tests",), "at least 1", id="no-test"),
        pytest.param({"tests": ["dynamics", "dynamics"]}, ("tests",), "name each once", id="twice"),
        pytest.param({"tests": ["dynamic"]}, ("tests", 0), "'dynamics'", id="unknown-test"),
        pytest.param({"items": 0}, ("items",), "greater than or equal to 1", id="no-items"),
    ],
)
def test_what_is_wrong_with_sub_skill_tests_is_said(given, where, says):
    defaults = {} if where == ("model",) else {"model": "endpoint:lab/m"}
    with pytest.raises(ValidationError) as refused:
        SubskillsParams(**defaults, **given)
    errors = {tuple(error["loc"]): error["msg"] for error in refused.value.errors()}
    assert says in errors[where]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        pytest.param({"replies": "endpoint:a/b"}, ("replies",), id="not-a-file"),
        pytest.param({"replies": FILE, "models": []}, ("models",), id="no-models"),
        pytest.param({"replies": FILE, "steps": 0}, ("steps",), id="no-steps"),
        pytest.param({"replies": FILE, "width": 65}, ("width",), id="no-heads"),
    ],
)
def test_what_is_wrong_with_a_training_is_said(given, where):
    with pytest.raises(ValidationError) as refused:
        TrainCloneParams(**given)
    assert where in {tuple(error["loc"]) for error in refused.value.errors()}
