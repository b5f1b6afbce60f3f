"""What the prompts must say, and in which order."""

from datetime import datetime
from itertools import combinations

import pytest

from shared.jobs.catalog.govsim import SimulateParams
from workers.govsim.memory import Node
from workers.govsim.prompts import TALK, Line, Told, prompts_of

NOW = datetime(2024, 2, 1, 1)
LLM = {"type": "llm", "model": "endpoint:a/b"}
MEMORIES = [
    Node(1, "thought", "Fish are few.", datetime(2024, 1, 30, 1), datetime(2025, 1, 1), 5, False),
    Node(2, "event", "There are 100 tons.", NOW, datetime(2025, 1, 1), 10, True),
]
SAID = [Line("Mayor", "John caught 1 ton of fish."), Line("Kate", "Hello.")]
OTHERS = "Kate, Jack, Emma and Luke"


def prompts(**params):
    return prompts_of(SimulateParams(policies=LLM, **params))


def in_order(text, *parts):
    places = [text.find(part) for part in parts]
    return -1 not in places and places == sorted(places)


CONDITIONS = [
    pytest.param({}, id="fishery"),
    pytest.param({"scenario": "pasture"}, id="pasture"),
    pytest.param({"scenario": "pollution"}, id="pollution"),
    *(pytest.param({"experiment": "paraphrase", "rules_variant": n}, id=f"paraphrase-{n}") for n in (1, 2, 3)),
]


@pytest.mark.parametrize("params", CONDITIONS)
def test_the_rules_tell_all_that_agents_know(params):
    rules = prompts(**params).rules(0)
    for part in (
        "John",
        "Kate",
        "Jack",
        "Emma",
        "Luke",
        "4",
        "0 ",
        "100",
        "one thousand dollars",
        "90",
        "30",
        "60",
        "talk",
    ):
        assert part in rules
    assert "doubles" in rules


@pytest.mark.parametrize("params", CONDITIONS)
def test_the_rules_never_tell_the_horizon_or_the_collapse_bound(params):
    rules = prompts(**params, months=37, collapse_below=23).rules(0)
    assert "37" not in rules
    assert "23" not in rules


def test_paraphrases_tell_the_same_facts_in_other_words():
    texts = [prompts().rules(0), *(prompts(experiment="paraphrase", rules_variant=n).rules(0) for n in (1, 2, 3))]
    sentences = [set(text.replace(TALK, "").split(". ")) for text in texts]
    assert all(not one & other for one, other in combinations(sentences, 2))


def test_pollution_states_no_cap_and_the_fishery_does():
    """Trap 12: the pollution rules know no bound of growth."""
    assert "up to 100 tons" in prompts().rules(0)
    assert "up to 100 %" not in prompts(scenario="pollution").rules(0)


def test_without_communication_the_rules_promise_no_talk_and_no_report():
    rules = prompts(experiment="no_communication").rules(0)
    assert "talk" not in rules
    assert "made known" not in rules


def test_trap_13_rules_name_all_others_also_before_the_newcomer_came():
    """Trap 13: as officially."""
    assert "4 others: Kate, Jack, Emma and Luke" in prompts(experiment="newcomer").rules(0)


def test_goals_are_told_with_a_newcomer_only():
    told = prompts(experiment="newcomer_universalization")
    assert ["community" in told.rules(agent) for agent in range(5)] == [True] * 4 + [False]
    assert "as much profit for yourself" in told.rules(4)
    assert "community" not in prompts().rules(0)


def test_a_harvest_is_asked_in_the_papers_order():
    text = prompts().harvest(Told(0, NOW, MEMORIES), 84).text
    assert in_order(
        text, "You are John", "Place: lake", "Date: 2024-02-01", "- 2024-01-30: Fish are few.",
        "- 2024-02-01: There are 100 tons.", "from 0 to 84", "step by step", "Answer: N tons of fish",
    )  # fmt: skip


def test_an_utterance_is_asked_in_the_papers_order_and_opened_with_its_label():
    prompt = prompts().utterance(Told(1, NOW, MEMORIES), ["John", "Kate"], SAID)
    assert in_order(
        prompt.text, "You are Kate", "Place: village inn", "Date:", "Fish are few", "In the group chat: John, Kate",
        "- Mayor: John caught", "- Kate: Hello.", "don't repeat", "Response:", "I conclude the conversation (yes/no):",
        "Next speaker:",
    )  # fmt: skip
    assert prompt.opening == "Response:"


@pytest.mark.parametrize("kind", ["summary", "limit"])
def test_the_framework_is_told_no_rules(kind):
    text = getattr(prompts(), kind)(SAID).text
    assert in_order(text, "- Mayor: John caught", "Task:")
    assert "You are" not in text


def test_the_limit_is_asked_per_person_with_a_way_out():
    assert in_order(
        prompts().limit(SAID).text, "explicitly", "each person", "step by step", "N/A", "Answer: N tons of fish"
    )


@pytest.mark.parametrize("kind", ["planning", "interesting"])
def test_thoughts_are_full_sentences_from_ones_own_perspective(kind):
    text = getattr(prompts(), kind)(2, SAID).text
    assert in_order(text, "You are Jack", "- Kate: Hello.", "your own perspective", "one full sentence")


def test_insights_are_asked_of_numbered_memories():
    prompt = prompts().insights(0, MEMORIES)
    assert in_order(prompt.text, "You are John", "1. Fish are few.", "2. There are 100 tons.", "(because of 1, 3)")
    assert prompt.opening == "1."


@pytest.mark.parametrize("type", ["chat", "event", "thought", "action"])
def test_importance_is_asked_on_a_scale_with_two_examples(type):
    prompt = prompts().importance(0, type, "The text.")
    assert in_order(prompt.text, "You are John", "1 is mundane (", "10 is momentous (", "The text.", "Rating:")
    assert prompt.opening == "Rating:"


def test_the_worked_example_follows_capacity_and_growth():
    rules = prompts(capacity=200, growth=3).rules(0)
    assert in_order(rules, "3 times as much", "180 tons", "60", "120 are left", "there are 200")
