"""The paper's five questions: the right answers are worked out here from the rules, not from the code."""

import asyncio
import json
import re

import numpy as np
import pytest

from shared.jobs.catalog.govsim import FIVE_TESTS, SubskillsParams
from shared.jobs.errors import HandBack
from shared.jobs.local import LocalContext
from shared.llm.scripted import ScriptedChat
from tests.unit.workers.govsim.scripted import MODEL
from workers.govsim.jobs import examine
from workers.govsim.randomness import Draws
from workers.govsim.subskills import ALL_TESTS, Item, draw_items, score_of


def ask(folder, script, model=None, **params):
    params = SubskillsParams(model=MODEL, **params)
    ctx = LocalContext(folder)
    result = asyncio.run(examine(params, ctx, model or ScriptedChat(script)))
    ctx.close()
    return result


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def expert(call):
    """Works every question out from the numbers in its text."""
    text = call.messages[0].content
    task = text.partition("Task:")[2] or text
    numbers = [int(number) for number in re.findall(r"\d+", task)]
    test = call.key.split("/")[1]
    if test.startswith("dynamics"):
        stock, taken = numbers[:2]
        return f"Answer: {max(0, min(100, 2 * (stock - 5 * taken)))}"
    stock = numbers[1] if "action" in test else numbers[0]
    return f"Answer: {stock // 2 // 5}"


@pytest.mark.parametrize("scenario", ["fishery", "pasture", "pollution"])
def test_who_can_reckon_scores_one_in_every_test(tmp_path, scenario):
    result = ask(tmp_path, expert, scenario=scenario, tests=list(ALL_TESTS), items=40)
    assert {score.test: score.accuracy for score in result.scores} == {test: 1.0 for test in ALL_TESTS}
    assert (result.model_calls, [score.unreadable for score in result.scores]) == (320, [0] * 8)


@pytest.mark.parametrize(
    ("test", "stock", "taken", "right", "wrong"),
    [
        pytest.param("dynamics", 100, 10, [100], [50, 99], id="doubles"),
        pytest.param("dynamics", 90, 3, [100], [150], id="capped"),
        pytest.param("dynamics", 40, 8, [0], [-1, 40], id="emptied"),
        pytest.param("dynamics", 43, 7, [16], [8], id="odd"),
        pytest.param("sustainable_action", 100, 0, [1, 10], [0, 11], id="up-to-the-threshold"),
        pytest.param("universalized_action", 59, 0, [1, 5], [0, 6], id="floored-twice"),
        pytest.param("assumed_threshold", 100, 0, [10], [9, 11], id="exactly"),
        pytest.param("believed_threshold", 39, 0, [3], [4], id="exactly-too"),
        pytest.param("believed_threshold_math", 10, 0, [1], [0, 2], id="math"),
    ],
)
def test_answers_are_judged_by_the_rules(test, stock, taken, right, wrong):
    item = Item(0, 0, stock, taken)
    assert all(item.is_right(test, answer) for answer in right)
    assert not any(item.is_right(test, answer) for answer in wrong)


def test_items_are_uniform_and_a_function_of_the_seed():
    items = draw_items(20_000, 0, Draws(42))
    stocks = np.array([item.stock for item in items])
    assert (stocks.min(), stocks.max()) == (10, 100)
    assert abs(stocks.mean() - 55) < 0.6  # sd 26.3 / √20000 = 0.19
    assert {item.persona for item in items} == set(range(5))
    assert all(0 <= item.taken <= item.stock // 5 for item in items)
    assert any(item.taken == item.stock // 5 for item in items)
    assert draw_items(5, 0, Draws(42)) == items[:5]
    assert draw_items(5, 1, Draws(42)) != items[:5] != draw_items(5, 0, Draws(43))


def test_the_default_is_the_papers_five_tests_of_150_items():
    params = SubskillsParams(model=MODEL)
    assert (tuple(params.tests), params.items, params.temperature) == (FIVE_TESTS, 150, 0.0)


def test_the_harvest_is_asked_with_the_stock_alone_and_with_universalization_with_its_sentence(tmp_path):
    ask(tmp_path, expert, tests=["sustainable_action", "universalized_action"], items=1)
    prompts = [call["messages"][0]["content"] for call in lines(tmp_path, "transcript.jsonl")]
    memories = [prompt.partition("Key memories:\n")[2].partition("\n\n")[0].splitlines() for prompt in prompts]
    assert [len(own) for own in memories] == [1, 2]
    assert "if everyone catches more than" in memories[1][1]


def test_bare_mathematics_knows_no_fish_and_no_persona(tmp_path):
    ask(tmp_path, expert, tests=["dynamics_math", "assumed_threshold_math", "believed_threshold_math"], items=2)
    for call in lines(tmp_path, "transcript.jsonl"):
        assert call["name"] is None
        assert not re.search("fish|lake|John|Kate|Jack|Emma|Luke", call["messages"][0]["content"])


@pytest.mark.parametrize(
    ("scenario", "stock", "unit"),
    [("fishery", "tons of fish", "tons of fish"), ("pasture", "hectares of grass", "flocks of sheep"),
     ("pollution", "%", "pallets of widgets")],
)  # fmt: skip
def test_an_answer_is_asked_for_in_what_the_question_counts(tmp_path, scenario, stock, unit):
    ask(tmp_path, expert, scenario=scenario, items=1)
    for call in lines(tmp_path, "transcript.jsonl"):
        form = call["messages"][0]["content"].splitlines()[-1]
        assert form == f"Answer: N {stock if call['test'] == 'dynamics' else unit}"


def test_a_stock_is_read_beside_its_own_unit(tmp_path):
    def answer(call):
        return f"For 9 pallets each: {expert(call).rpartition(':')[2].split()[0]} % when all make 3 pallets"

    result = ask(tmp_path, lambda call: f"Answer: {answer(call)}", scenario="pollution", tests=["dynamics"], items=5)
    assert result.scores[0].accuracy == 1


def test_trap_12_the_pollution_is_asked_for_what_is_counted_as_right_unless_officially_worded(tmp_path):
    for official, asks in ((False, "is unpolluted when the next month begins?"), (True, "How polluted, in percent")):
        folder = tmp_path / str(official)
        ask(folder, expert, scenario="pollution", tests=["dynamics"], items=1, official_wording=official)
        (call,) = lines(folder, "transcript.jsonl")
        assert asks in call["messages"][0]["content"]


def test_the_official_wording_changes_no_other_question(tmp_path):
    for official in (False, True):
        ask(tmp_path / str(official), expert, scenario="pollution", tests=list(FIVE_TESTS[1:]), items=3,
            official_wording=official)  # fmt: skip
    assert (tmp_path / "True" / "transcript.jsonl").read_text() == (tmp_path / "False" / "transcript.jsonl").read_text()


def test_an_answer_that_can_not_be_read_is_wrong_and_counted(tmp_path):
    result = ask(tmp_path, lambda call: "I wonder.", tests=["dynamics"], items=4)
    assert (result.scores[0].accuracy, result.scores[0].unreadable, result.model_calls) == (0.0, 4, 8)


def test_the_interval_is_walds_clipped_to_shares():
    """150 items, 3 right: p = .02, s = √(.02·.98) = .14, half-width 1.96·.14/√150 = .0224."""
    score = score_of("dynamics", [True] * 3 + [False] * 147, 0)
    assert (score.accuracy, score.std) == (pytest.approx(0.02), pytest.approx(0.14))
    assert (score.ci95_low, score.ci95_high) == (0.0, pytest.approx(0.0424, abs=5e-5))


def test_every_answer_leads_to_its_prompt(tmp_path):
    ask(tmp_path, expert, items=3)
    calls = {call["key"]: call for call in lines(tmp_path, "transcript.jsonl")}
    items = lines(tmp_path, "items.jsonl")
    assert len(items) == 15
    for item in items:
        call = calls[item["key"]]
        assert (call["test"], call["parsed"], call["name"]) == (item["test"], item["answer"], item["persona"])


def test_a_bar_leads_to_its_prompts_the_wrong_answers_first(tmp_path):
    wrong = "fishery/dynamics/item2"
    ask(tmp_path, lambda call: "Answer: 999" if call.key == wrong else expert(call), tests=["dynamics"], items=4)
    (bar,) = json.loads((tmp_path / "subskills.plotly.json").read_text())["data"]
    keys = [key["key"] for key in bar["customdata"][0]["keys"]]
    assert keys == [wrong, *(f"fishery/dynamics/item{item}" for item in (0, 1, 3))]
    assert set(keys) == {call["key"] for call in lines(tmp_path, "transcript.jsonl")}
    assert lines(tmp_path, "scores.jsonl")[0]["keys"] == keys


class DiesAt(ScriptedChat):
    """Stops the job at its n-th call."""

    def __init__(self, script, at):
        super().__init__(script)
        self.asked, self.at = [], at

    async def reply(self, call):
        self.asked.append(call.key)
        if len(self.asked) == self.at:
            raise HandBack("killed")
        return await super().reply(call)


@pytest.mark.parametrize("at", [1, 7, 20, 29])
def test_tests_that_were_stopped_resume_to_the_same_bytes_and_ask_nothing_again(tmp_path, at):
    expected = ask(tmp_path / "whole", expert, items=10, tests=list(FIVE_TESTS[:3]))
    first, second = DiesAt(expert, at), DiesAt(expert, 0)
    ctx = LocalContext(tmp_path / "job")
    params = SubskillsParams(model=MODEL, items=10, tests=list(FIVE_TESTS[:3]))
    with pytest.raises(HandBack):
        asyncio.run(examine(params, ctx, first))
    ctx.release()
    assert ask(tmp_path / "job", expert, second, items=10, tests=list(FIVE_TESTS[:3])) == expected
    assert set(first.asked) & set(second.asked) == {first.asked[at - 1]}
    for name in ("items.jsonl", "transcript.jsonl", "scores.jsonl", "subskills.plotly.json"):
        assert (tmp_path / "job" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
