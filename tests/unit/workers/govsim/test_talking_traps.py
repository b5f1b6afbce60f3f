"""Each trap of the published method that language models touch, by its name."""

import json

import pytest

from shared.jobs.catalog.govsim import AnalyseParams
from shared.jobs.local import LocalContext
from shared.llm.scripted import ScriptedChat
from tests.unit.workers.govsim.scripted import MODEL, society_script, talk
from workers.govsim.asking import seed_of
from workers.govsim.conversation import Conversation
from workers.govsim.jobs import analyse

SOURCE = "file:" + "a" * 64


class NoPrefill(ScriptedChat):
    """A back end that doesn't go on from an opened turn."""

    prefill = False


def play(folder, script=None, models=None, **params):
    ctx = LocalContext(folder)
    _, result = talk(ctx, script, models or {MODEL: NoPrefill(script or society_script())}, **params)
    ctx.close()
    return result, [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]


def mute(runs, kinds=("harvest",)):
    """A script whose answers to these kinds in these runs say nothing."""
    script = society_script()

    def answer(call):
        run, _, kind = call.key.split("/")[:3]
        return "Hm." if run in runs and kind in kinds else script(call)

    return answer


def test_trap_1_unreadable_demands_make_a_run_invalid_and_enter_no_mean(tmp_path):
    """Run 0 "survives" with a demand of 0 throughout."""
    result, _ = play(tmp_path, mute({"run0"}), runs=3, months=2)
    assert [(run.invalid, run.gain, run.survived) for run in result.runs] == [
        (True, 0, True), (False, 20, True), (False, 20, True),
    ]  # fmt: skip
    assert (result.invalid_runs, result.gain.mean) == (1, 20)


def test_trap_1_only_invalid_runs_give_no_metric_at_all(tmp_path):
    result, _ = play(tmp_path, mute({"run0"}), runs=1, months=1)
    assert (result.invalid_runs, result.gain.mean, result.survival_rate.mean) == (1, None, None)
    assert (tmp_path / "runs_stock.plotly.json").exists()


def test_trap_1_every_fallback_is_counted_and_on_record(tmp_path):
    result, transcript = play(tmp_path, mute({"run0"}, ("importance",)), runs=1, months=1, max_parse_failure_rate=1.0)
    fallbacks = [call for call in transcript if call["fallback"]]
    assert {(call["kind"], call["parsed"]) for call in fallbacks} == {("importance", 5)}
    assert len(fallbacks) == 25
    assert result.fallback_rate == pytest.approx(25 / 56)
    assert result.model_calls == 56 + 25  # each asked once more


@pytest.mark.parametrize(
    ("rate", "invalid"), [pytest.param(0.2, True, id="above"), pytest.param(0.5, False, id="within")]
)
def test_trap_1_the_bound_is_the_jobs(tmp_path, rate, invalid):
    script = society_script(units=lambda call: "?" if "/agent0" in call.key or "/agent1" in call.key else "10")
    result, _ = play(tmp_path, script, runs=1, months=1, max_parse_failure_rate=rate)
    assert result.runs[0].invalid is invalid  # 2 of 5 harvests


def test_trap_1_an_analysis_leaves_out_what_the_job_found_invalid(tmp_path):
    play(tmp_path / "job", mute({"run0"}), runs=3, months=2)
    ctx = LocalContext(tmp_path / "out", inputs={SOURCE: tmp_path / "job" / "runs.jsonl"})
    (group,) = analyse(AnalyseParams(sources=[SOURCE]), ctx).groups
    ctx.close()
    assert (group.runs, group.invalid_runs, group.gain.mean) == (2, 1, 20)


def test_trap_2_demands_above_the_stock_reach_the_lottery_officially_and_are_clamped_strictly(tmp_path):
    official, _ = play(tmp_path / "o", society_script(units=250), runs=1, months=1, parser="official")
    strict, _ = play(tmp_path / "s", society_script(units=250), runs=1, months=1)
    assert official.runs[0].demanded == [[250] * 5]
    assert strict.runs[0].demanded == [[100] * 5]
    assert sum(official.runs[0].granted[0]) == sum(strict.runs[0].granted[0]) == 100


def test_trap_4_the_newcomer_lives_by_the_others_clock(tmp_path):
    script = society_script(names=("John",))
    play(tmp_path, script, runs=1, experiment="newcomer", months=5)
    memory = [json.loads(line) for line in (tmp_path / "memory.jsonl").read_text().splitlines()]
    assert min(node["created"] for node in memory if node["agent"] == 4) == "2024-04-01T01:00:00"
    thoughts = {node["created"][:10] for node in memory if node["type"] == "thought"}
    days = {1: (30, 31), 2: (28, 29), 3: (30, 31), 4: (29, 30), 5: (30, 31)}
    assert thoughts == {f"2024-0{month}-{day}" for month, both in days.items() for day in both}


def test_trap_5_the_seed_reaches_every_call_and_no_two_calls_share_one(tmp_path):
    seeds = {}

    class Noting(ScriptedChat):
        async def reply(self, call):
            seeds[call.key] = call.seed
            return await super().reply(call)

    play(tmp_path, models={MODEL: Noting(society_script())}, runs=2, months=1)
    assert len(set(seeds.values())) == len(seeds) == 2 * 56
    assert seeds == {key: seed_of(42, key) for key in seeds}
    assert seed_of(42, "a") != seed_of(43, "a")


def test_trap_6_the_empty_string_is_a_focal_point():
    conversation = Conversation(["John"], 10)
    assert conversation.focal_points == [""]
    conversation.report("Hi")
    assert conversation.focal_points == ["", "Hi"]


def test_trap_10_a_job_leaves_finished_runs_only(tmp_path):
    result, _ = play(tmp_path, runs=2, months=3)
    assert all(len(run.pool) == 3 for run in result.runs)


def test_trap_14_one_user_message_asks_unless_the_back_end_goes_on_from_an_opened_turn(tmp_path):
    _, plain = play(tmp_path / "plain", runs=1, months=1)
    assert {tuple(message["role"] for message in call["messages"]) for call in plain} == {("user",)}
    _, opened = play(tmp_path / "opened", models={MODEL: ScriptedChat(society_script())}, runs=1, months=1)
    openings = {call["kind"]: [message["content"] for message in call["messages"][1:]] for call in opened}
    assert openings["utterance"] == ["Response:"]
    assert openings["importance"] == ["Rating:"]
    assert openings["insights"] == ["1."]
    assert openings["harvest"] == []


def test_trap_14_labels_may_be_repeated_or_not(tmp_path):
    """The same society whether or not replies repeat the opened label."""

    def bare(call):
        text = society_script()(call)
        for label in ("Response: ", "Rating: ", "1. "):
            text = text.removeprefix(label)
        return text

    models = [{MODEL: ScriptedChat(script)} for script in (society_script(), bare)]
    for name, own in zip(("repeated", "bare"), models, strict=True):
        play(tmp_path / name, models=own, runs=1, months=2)
    memories = [(tmp_path / name / "memory.jsonl").read_bytes() for name in ("repeated", "bare")]
    assert memories[0] == memories[1]


def test_trap_14_a_repair_is_a_user_message_or_the_missing_label_below_the_reply(tmp_path):
    script = society_script(units="?")
    _, plain = play(tmp_path / "plain", script, runs=1, months=1)
    _, opened = play(tmp_path / "opened", models={MODEL: ScriptedChat(script)}, runs=1, months=1)
    for transcript, roles, end in (
        (plain, ["user", "assistant", "user"], "Answer: ? tons of fish"),
        (opened, ["user", "assistant"], "Answer: ? tons of fish\nAnswer:"),
    ):
        again = next(call for call in transcript if call["key"].endswith("harvest/agent0/again1"))
        assert [message["role"] for message in again["messages"]] == roles
        assert again["messages"][1]["content"].endswith(end)


@pytest.mark.parametrize(
    ("kind", "reply", "again", "opened"),
    [
        pytest.param("harvest", "Hm.", " 7 tons", "Hm.\nAnswer:", id="harvest"),
        pytest.param("limit", "Hm.", " 7", "Hm.\nAnswer:", id="limit"),
        pytest.param("importance", " high", " 7", "Rating: high\nRating:", id="importance"),
        pytest.param(
            "utterance", " Hi", " yes", "Response: Hi\nI conclude the conversation (yes/no):", id="conclusion",
        ),
        pytest.param(
            "utterance", " Hi\nI conclude the conversation (yes/no): no", " Luke",
            "Response: Hi\nI conclude the conversation (yes/no): no\nNext speaker:", id="next-speaker",
        ),
        pytest.param("planning", "", "A thought.", None, id="thought"),
        pytest.param("insights", "", " An insight.", "1.", id="insights"),
        pytest.param("utterance", "", " Hi\nI conclude the conversation: yes", "Response:", id="blank-utterance"),
        pytest.param("harvest", " ", " 7", "Answer:", id="blank-harvest"),
    ],
)  # fmt: skip
def test_trap_14_a_back_end_that_goes_on_is_given_the_label_it_left_out(tmp_path, kind, reply, again, opened):
    """A model that ended its turn would end it again."""
    script = society_script()

    def answer(call):
        if call.key.split("/")[2] != kind:
            return script(call)
        return again if call.key.endswith("again1") else reply

    _, transcript = play(tmp_path, models={MODEL: ScriptedChat(answer)}, runs=1, months=1)
    asked = [call for call in transcript if call["kind"] == kind]
    repaired = next(call for call in asked if call["key"].endswith("/again1"))
    assert [message["content"] for message in repaired["messages"][1:]] == ([] if opened is None else [opened])
    assert repaired["fallback"] is False
    if not reply.strip():
        assert repaired["messages"][0]["content"].startswith(asked[0]["messages"][0]["content"])
        assert repaired["messages"][0]["content"] != asked[0]["messages"][0]["content"]


def test_an_official_utterance_is_completed_in_two_requests_and_a_strict_one_in_one(tmp_path):
    def unlabelled(call):
        if "utterance/step1" not in call.key:
            return society_script(utterances=2)(call)
        return {"run0/month1/utterance/step1": "Hello", "run0/month1/utterance/step1/again1": "no"}.get(
            call.key, "Jack"
        )

    for parser, requests in (("official", 3), ("strict", 2)):
        _, transcript = play(tmp_path / parser, unlabelled, runs=1, months=1, parser=parser)
        asked = [call for call in transcript if "/utterance/step1" in call["key"]]
        assert len(asked) == requests
    second = next(call for call in transcript if call["key"] == "run0/month1/utterance/step2")
    assert second["name"] == "John"  # strictly: nobody named, so the first participant, counted
    assert asked[-1]["fallback"] is True


def test_a_missing_utterance_ends_the_conversation_and_counts(tmp_path):
    script = society_script()
    _, transcript = play(tmp_path, lambda call: "..." if "utterance" in call.key else script(call), runs=1, months=1)
    spoken = [call for call in transcript if call["kind"] == "utterance"]
    assert len(spoken) == 2
    assert spoken[-1]["fallback"] is True


def test_a_limit_officially_asked_again_takes_the_second_replys_digits(tmp_path):
    script = society_script()

    def answer(call):
        if "/limit" in call.key:
            return "9" if "again" in call.key else "They agreed."
        return script(call)

    result, _ = play(tmp_path, answer, runs=1, months=1, parser="official")
    assert json.loads((tmp_path / "runs.jsonl").read_text())["limit"] == [9]
    assert result.model_calls == 57
