"""Societies that talk: what is asked, what is remembered, what an order of answers can't change."""

import asyncio
import json
import random
import tarfile
from collections import Counter

import pytest

from shared.jobs.errors import Retryable
from shared.jobs.local import LocalContext
from shared.llm.scripted import ScriptedChat
from tests.unit.workers.govsim.scripted import MODEL, OTHER, society_script, talk

LLM = {"type": "llm", "model": MODEL}


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def outputs(folder):
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "timings.jsonl"
    }


def play(folder, script=None, models=None, **params):
    """Run a talking society; (result, transcript)."""
    ctx = LocalContext(folder)
    _, result = talk(ctx, script, models, **params)
    ctx.close()
    return result, lines(folder, "transcript.jsonl")


def test_a_month_with_nine_utterances_and_two_insights_costs_56_calls(tmp_path):
    result, transcript = play(tmp_path, runs=1)
    by_month = Counter((call["month"], call["kind"]) for call in transcript)
    for month in range(1, 13):
        assert {kind: by_month[month, kind] for kind in {call["kind"] for call in transcript}} == {
            "harvest": 5, "utterance": 9, "summary": 1, "limit": 1, "planning": 5, "interesting": 5, "insights": 5,
            "importance": 25,
        }  # fmt: skip
    assert result.model_calls == len(transcript) == 672


def test_without_communication_a_month_costs_five_calls(tmp_path):
    result, transcript = play(tmp_path, runs=1, experiment="no_communication")
    assert result.model_calls == 60
    assert {call["kind"] for call in transcript} == {"harvest"}


def test_chats_need_not_be_rated(tmp_path):
    result, _ = play(tmp_path, runs=1, months=1, rate_chats=False)
    assert result.model_calls == 51


def test_month_two_remembers_thoughts_the_limit_and_insights_but_no_event_of_month_one(tmp_path):
    _, transcript = play(tmp_path, society_script(limit="10 tons"), runs=1, months=2)
    prompt = prompt_of(transcript, "run0/month2/harvest/agent1")
    memories = prompt.partition("Key memories:\n")[2].partition("\n\n")[0].splitlines()
    assert memories == [
        "- 2024-01-30: A sentence on run0/month1/planning/agent1",
        "- 2024-01-30: A sentence on run0/month1/interesting/agent1",
        "- 2024-01-30: The group agreed on a limit: nobody takes more than 10 tons of fish a month.",
        "- 2024-01-31: Insight 1 of run0/month1/insights/agent1",
        "- 2024-01-31: Insight 2 of run0/month1/insights/agent1",
        "- 2024-02-01: Before anyone fishes this month, there are 100 tons of fish in the lake.",
    ]


def test_without_communication_every_month_knows_the_present_stock_alone(tmp_path):
    _, transcript = play(tmp_path, runs=1, experiment="no_communication", months=3)
    for call in transcript:
        memories = call["messages"][0]["content"].partition("Key memories:\n")[2].partition("\n\n")[0]
        assert len(memories.splitlines()) == 1
        assert "there are 100 tons of fish" in memories


def test_nobody_is_told_demands_of_others_the_horizon_or_the_collapse_bound(tmp_path):
    _, transcript = play(tmp_path, society_script(units=40), runs=1, months=7)
    for call in transcript:
        text = " ".join(message["content"] for message in call["messages"])
        assert "wanted to catch" not in text.replace(f"{call['name']} wanted to catch", "")
        assert "7 months" not in text
        assert "fewer than 5" not in text


def test_reports_tell_grants_and_own_results_both(tmp_path):
    _, transcript = play(tmp_path, society_script(units=40), runs=1, months=1)
    prompt = prompt_of(transcript, "run0/month1/utterance/step1")
    conversation = lines(tmp_path, "conversations.jsonl")[0]
    granted = lines(tmp_path, "runs.jsonl")[0]["granted"][0]
    assert conversation["utterances"][0]["text"].startswith(f"John caught {granted[0]} tons of fish. Kate caught")
    assert f"John wanted to catch 40 tons of fish and caught {granted[0]} tons of fish." in prompt


def test_universalization_tells_the_threshold_of_the_month(tmp_path):
    _, transcript = play(tmp_path, society_script(units=19), runs=1, universalization=True)
    text = "if everyone catches more than {} tons this month"
    assert text.format(10) in prompt_of(transcript, "run0/month1/harvest/agent0")
    assert text.format(1) in prompt_of(transcript, "run0/month2/harvest/agent0")  # 5 left, 10 grown


def test_the_collapsing_month_is_still_discussed_and_reflected_on(tmp_path):
    result, transcript = play(tmp_path, society_script(units=20), runs=1)
    assert result.survival_time.mean == 1
    assert {call["kind"] for call in transcript} >= {"utterance", "insights"}
    assert max(call["month"] for call in transcript) == 1


@pytest.mark.parametrize("steps", [2, 5, 10])
def test_a_conversation_ends_with_its_last_step_the_report_counted(tmp_path, steps):
    _, transcript = play(tmp_path, society_script(utterances=99), runs=1, months=1, max_conversation_steps=steps)
    assert sum(call["kind"] == "utterance" for call in transcript) == steps - 1


def test_a_speaker_may_name_itself_and_end_the_conversation(tmp_path):
    _, transcript = play(tmp_path, society_script(utterances=3, names=("John",)), runs=1, months=1)
    assert [call["name"] for call in transcript if call["kind"] == "utterance"] == ["John"] * 3


def test_reports_of_ones_own_open_the_conversation_and_no_moderator_speaks(tmp_path):
    play(tmp_path, runs=1, months=1, report="individual")
    said = lines(tmp_path, "conversations.jsonl")[0]["utterances"]
    assert [line["name"] for line in said[:5]] == ["John", "Kate", "Jack", "Emma", "Luke"]
    assert (said[0]["text"], said[0]["key"]) == ("John caught 10 tons of fish.", None)
    assert len(said) == 10


def test_without_a_report_grants_are_stored_at_home_and_never_seen(tmp_path):
    _, transcript = play(tmp_path, runs=1, months=2, report="none")
    home = [node for node in lines(tmp_path, "memory.jsonl") if "Luke caught" in node["text"] and node["agent"] == 0]
    assert [node["created"] == node["expiration"] for node in home] == [True, True]
    assert not any("Luke caught" in call["messages"][0]["content"] for call in transcript if call["agent"] == 0)


def test_a_newcomer_joins_with_an_empty_memory_and_goals_differ(tmp_path):
    script = society_script(names=("John", "Kate", "Jack", "Emma"))
    result, transcript = play(tmp_path, script, runs=1, experiment="newcomer", months=5)
    assert [len(month) for month in result.runs[0].granted] == [4, 4, 4, 5, 5]
    first = prompt_of(transcript, "run0/month4/harvest/agent4")
    assert len(first.partition("Key memories:\n")[2].partition("\n\n")[0].splitlines()) == 1
    assert "You want one thing only" in first
    assert "You care for the community" in prompt_of(transcript, "run0/month1/harvest/agent0")
    assert not any(call["agent"] == 4 and call["month"] < 4 for call in transcript)


def test_in_sequence_agents_see_what_is_left(tmp_path):
    result, transcript = play(tmp_path, society_script(units=30), runs=1, months=1, order="sequential")
    lefts = [
        int(prompt.partition("from 0 to ")[2].partition(".")[0])
        for prompt in (call["messages"][0]["content"].partition("Task:")[2] for call in transcript)
        if "how many tons of fish you catch" in prompt
    ]
    assert sorted(lefts, reverse=True) == [100, 70, 40, 10]  # the fifth found nothing and was not asked
    assert sorted(result.runs[0].granted[0]) == [0, 10, 30, 30, 30]
    seen = {text for text in (node["text"] for node in lines(tmp_path, "memory.jsonl")) if "in the lake" in text}
    assert seen == {
        "Before anyone fishes this month, there are 100 tons of fish in the lake.",
        *(
            f"After those who fished before you this month, {n} tons of fish are left in the lake."
            for n in (70, 40, 10)
        ),
    }


def test_scripted_agents_and_models_share_a_lake(tmp_path):
    policies = [LLM, {"type": "threshold"}, LLM, {"type": "fixed", "quantity": 30}, {"type": "tit_for_tat"}]
    result, transcript = play(tmp_path, runs=2, months=3, policies=policies)
    assert {call["agent"] for call in transcript} == {0, 2, None}
    run = result.runs[0]
    assert [month[3] for month in run.demanded] == [30] * len(run.pool)
    assert run.demanded[1][4] == 30  # tit for tat
    said = lines(tmp_path, "conversations.jsonl")[0]["utterances"]
    assert "I propose that nobody takes more than 10 tons" in next(line["text"] for line in said if line["agent"] == 1)
    assert {node["agent"] for node in lines(tmp_path, "memory.jsonl")} == {0, 2}


def test_each_agent_has_its_model_and_the_framework_another(tmp_path):
    models = {MODEL: ScriptedChat(society_script()), OTHER: ScriptedChat(society_script())}
    policies = [LLM] * 3 + [{"type": "llm", "model": OTHER}] * 2
    _, transcript = play(tmp_path, models=models, runs=1, months=1, policies=policies, framework_model=OTHER)
    by_agent = {(call["agent"], call["model"]) for call in transcript}
    assert by_agent == {(0, MODEL), (1, MODEL), (2, MODEL), (3, OTHER), (4, OTHER), (None, OTHER)}


def test_an_agents_parser_may_differ_from_the_jobs(tmp_path):
    policies = [{**LLM, "parser": "official"}, LLM, LLM, LLM, LLM]
    result, _ = play(tmp_path, society_script(units=lambda call: "50/5 = 10"), runs=1, months=1, policies=policies)
    assert result.runs[0].demanded[0] == [50, 10, 10, 10, 10]


class Shuffled(ScriptedChat):
    """Answers in an order of its own."""

    def __init__(self, script, seed):
        super().__init__(script)
        self._random = random.Random(seed)

    async def reply(self, call):
        await asyncio.sleep(self._random.random() * 0.002)
        return await super().reply(call)


FAILING = [
    pytest.param("summary", id="summary"),
    pytest.param("planning/agent0", id="thoughts"),
    pytest.param("importance/agent0/chat", id="ratings-of-a-discussion"),
    pytest.param("insights/agent0", id="insights"),
    pytest.param("importance/agent0/insight1", id="ratings-of-insights"),
]


@pytest.mark.parametrize("at", FAILING)
def test_when_a_call_fails_those_in_flight_are_still_answered_and_kept(tmp_path, at):
    script, asked, answered = society_script(), Counter(), Counter()

    class Failing(ScriptedChat):
        async def reply(self, call):
            asked[call.key] += 1
            if call.key == f"run0/month1/{at}" and asked[call.key] == 1:
                raise Retryable("no answer")
            await asyncio.sleep(0.01)
            answered[call.key] += 1
            return await super().reply(call)

    ctx = LocalContext(tmp_path)
    with pytest.raises(Retryable):
        talk(ctx, models={MODEL: Failing(script)}, runs=1, months=1)
    ctx.release()
    assert set(asked) - set(answered) == {f"run0/month1/{at}"}
    play(tmp_path, models={MODEL: Failing(script)}, runs=1, months=1)
    assert set(answered.values()) == {1}


def test_no_order_of_answers_changes_a_byte(tmp_path):
    society = {"runs": 3, "months": 2, "policies": LLM}
    play(tmp_path / "plain", **society)
    for seed in (1, 2):
        play(tmp_path / str(seed), models={MODEL: Shuffled(society_script(), seed)}, **society)
        assert outputs(tmp_path / str(seed)) == outputs(tmp_path / "plain")


def test_a_run_does_not_depend_on_how_many_there_are(tmp_path):
    few, _ = play(tmp_path / "few", society_script(units=25), runs=1)
    many, _ = play(tmp_path / "many", society_script(units=25), runs=4)
    assert many.runs[0] == few.runs[0]
    assert len({tuple(run.granted[0]) for run in many.runs}) > 1  # each its own lottery


def test_progress_counts_months_of_all_runs(tmp_path):
    seen = []
    ctx = LocalContext(tmp_path, say=lambda event, data: seen.append(data) if event == "progress" else None)
    talk(ctx, society_script(units=lambda call: 20 if call.key.startswith("run0/") else 10), runs=2, months=3)
    ctx.close()
    assert {data["unit"] for data in seen} == {"months"}
    done = [data["done"] for data in seen]
    assert done == sorted(done)
    assert (done[-1], seen[-1]["total"]) == (6, 6)
    assert 4 in done  # the collapsed run counts in full after month 1


def test_every_utterance_of_the_log_stands_beside_its_own_prompt(tmp_path):
    """The official logs pair it with the one before."""
    _, transcript = play(tmp_path, runs=1, months=2)
    replies = {call["key"]: call for call in transcript}
    with tarfile.open(tmp_path / "log_env.tar") as tar:
        log = json.load(tar.extractfile("00000-0/log_env.json"))
    spoken = [record for record in log if record["action"] == "utterance" and record["agent_id"] != "framework"]
    assert len(spoken) == 18
    for record in spoken:
        key = record["utterance"].removeprefix("I say ")
        assert f'id="{key}"' in record["html_interactions"]
        assert f"you are {replies[key]['name']}" in record["html_interactions"]
        assert record["agent_name"] == replies[key]["name"]


def test_trap_16_model_text_is_escaped_in_logs(tmp_path):
    script = society_script()
    play(tmp_path, lambda call: script(call).replace("I think", "<script>alert(1)</script>"), runs=1, months=1)
    with tarfile.open(tmp_path / "log_env.tar") as tar:
        text = tar.extractfile("00000-0/log_env.json").read().decode()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def prompt_of(transcript, key):
    return next(call for call in transcript if call["key"] == key)["messages"][0]["content"]
