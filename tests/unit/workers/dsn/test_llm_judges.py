"""Judges that are language models: what they are asked, how they are read, what is kept of them."""

import json
from contextlib import asynccontextmanager

import pytest
import torch

from shared.jobs.errors import InvalidInput, Permanent
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.llm.scripted import ScriptedChat
from shared.settings import Settings
from workers.dsn import llm_judges
from workers.dsn.classifier import TEMPLATE, ClassifierJudge
from workers.dsn.judges import ABSTAINS, Item, Judged
from workers.dsn.llm_judges import ATTEMPTS, SYSTEM, LlmJudge, parsed

ITEM = Item("test/gcg/0/3", "a goal", "an answer")


@pytest.mark.parametrize(("answer", "verdict"), [
    ("Harmful", True), ("harmful.", True), ("Harmless", False), ("It is harmless", False), ("HARMFUL", None),
    ("I cannot judge this", None), ("", None),
])  # fmt: skip
def test_answers_are_read_in_either_spelling_and_nothing_else_parses(answer, verdict):
    assert parsed(answer) is verdict


@pytest.fixture
def judge_with(tmp_path, monkeypatch):
    """A judge that answers by a script; its calls are in `asked`."""
    opened_contexts = []

    def make(script, ref="hub:lab/judge", remote="off", folder="ctx"):
        asked = []

        def said(call):
            asked.append(call)
            return script(call)

        @asynccontextmanager
        async def opened(refs, ctx, settings):
            yield {ref: ScriptedChat(said) for ref in refs}

        monkeypatch.setattr(llm_judges, "open_models", opened)
        settings = Settings(redteam_remote_judges=remote)
        ctx = LocalContext(tmp_path / folder)
        opened_contexts.append(ctx)
        return LlmJudge("strict", True, Ref(ref), ctx, settings), asked

    yield make
    for ctx in opened_contexts:
        ctx.release()


def test_it_is_asked_for_one_word_about_the_goal_alone(judge_with):
    judge, asked = judge_with(lambda call: "Harmful")
    assert judge.judge([ITEM, ITEM._replace(key="b", suffix="f01")]) == [Judged(True), Judged(True)]
    assert [message.content for message in asked[0].messages] == [SYSTEM, "Request:a goal Content:an answer"]
    assert asked[1].messages[1].content == "Request:a goal f01 Content:an answer"


def test_it_is_asked_four_times_and_then_abstains(judge_with):
    judge, asked = judge_with(lambda call: "HARMFUL")
    assert judge.judge([ITEM]) == [ABSTAINS]
    assert len(asked) == ATTEMPTS == 4
    judge, asked = judge_with(lambda call: "Harmless" if call.key.endswith("/2") else "hm", folder="other")
    assert judge.judge([ITEM]) == [Judged(False)]
    assert len(asked) == 3


def test_a_judge_that_refuses_a_call_abstains_from_the_item_and_the_job_goes_on(judge_with):
    def refuse(call):
        if "bad" in call.messages[1].content:
            raise Permanent("too long")
        return "Harmless"

    judge, _ = judge_with(refuse)
    assert judge.judge([ITEM._replace(goal="bad"), ITEM._replace(key="b")]) == [ABSTAINS, Judged(False)]


@pytest.mark.parametrize(("ref", "remote", "request_"), [
    ("endpoint:lab/m", "redacted", "(withheld)"), ("endpoint:lab/m", "full", "a goal"), ("hub:lab/m", "off", "a goal"),
])  # fmt: skip
def test_a_judge_behind_an_endpoint_sees_no_goal_unless_the_operator_lets_it(judge_with, ref, remote, request_):
    judge, asked = judge_with(lambda call: "Harmful", ref, remote)
    judge.judge([ITEM])
    assert asked[0].messages[1].content == f"Request:{request_} Content:an answer"


def test_only_verdicts_are_kept_and_a_resumed_job_does_not_ask_again(judge_with, tmp_path):
    judge, asked = judge_with(lambda call: "Harmful: an answer that quotes a goal")
    judge.judge([ITEM])
    kept = [file.read_bytes() for file in (tmp_path / "ctx" / ".replies").rglob("*") if file.is_file()]
    assert kept
    assert not any(b"quotes" in data or b"an answer" in data for data in kept)
    again, asked = judge_with(lambda call: "Harmless")
    assert again.judge([ITEM]) == [Judged(True)]
    assert asked == []


class OneToken:
    """A model whose next token is a word of the prompt's choosing."""

    device = "cpu"

    def __init__(self, choose):
        self.choose = choose

    def __call__(self, input_ids, use_cache):
        logits = torch.zeros(1, input_ids.shape[1], 3)
        logits[0, -1, self.choose(input_ids)] = 1
        return type("Out", (), {"logits": logits})


class ThreeWords:
    def __init__(self):
        self.texts = []

    def __call__(self, text, return_tensors):
        self.texts.append(text)
        return {"input_ids": torch.tensor([[len(text) % 3]])}

    def decode(self, ids):
        return [" Yes", " No", " Perhaps"][ids[0]]


@pytest.mark.parametrize(("context", "judged"), [(1, Judged(True)), (0, ABSTAINS), (None, Judged(True))])
def test_a_text_longer_than_a_classifiers_context_is_not_judged_by_its_beginning(context, judged):
    model = OneToken(lambda ids: 0)
    model.config = type("Config", (), {"max_position_embeddings": context})
    assert ClassifierJudge("c", True, model, ThreeWords()).judge([ITEM]) == [judged]


@pytest.mark.parametrize(("token", "judged"), [(0, Judged(True)), (1, Judged(False)), (2, ABSTAINS)])
def test_a_classifier_says_yes_or_no_in_its_next_token_or_abstains(token, judged):
    words = ThreeWords()
    assert ClassifierJudge("c", True, OneToken(lambda ids: token), words).judge([ITEM]) == [judged]
    assert words.texts == [TEMPLATE.replace("{goal}", "a goal").replace("{response}", "an answer")]


def test_a_classifiers_own_template_is_filled_without_reading_braces_in_texts():
    words = ThreeWords()
    odd = ITEM._replace(response="{goal} {x}")
    ClassifierJudge("c", True, OneToken(lambda ids: 0), words, "B: {goal} G: {response} ?").judge([odd])
    assert words.texts == ["B: a goal G: {goal} {x} ?"]


def test_the_worker_too_refuses_judges_behind_endpoints_that_are_off(tmp_path, monkeypatch, small):
    from workers.dsn.opening import Panel

    monkeypatch.delenv("TENFOLD_REDTEAM_REMOTE_JUDGES", raising=False)
    params = small(judges=[{"name": "far", "type": "llm", "model": "endpoint:lab/m"}, {"name": "k", "type": "keyword"}])
    panel = Panel(params, LocalContext(tmp_path), Settings())
    assert panel.judge([ITEM])["far"] == [ABSTAINS]
    assert "TENFOLD_REDTEAM_REMOTE_JUDGES" in panel.unavailable["far"]


def test_a_real_model_classifies_and_chats(tmp_path, small, colours_folder):
    """Through the same loading as any checkpoint; the stand-in is no judge, so it abstains item by item."""
    from workers.dsn.opening import Panel

    judges = [{"name": kind, "type": kind, "model": "builtin:colours"} for kind in ("llm", "classifier")]
    ctx = LocalContext(tmp_path)
    panel = Panel(small(judges=judges), ctx, Settings(data=tmp_path / "data"))
    assert panel.unavailable == {}
    found = panel.judge([ITEM])
    ctx.release()
    assert found == {"llm": [ABSTAINS], "classifier": [ABSTAINS]}
    assert json.dumps([list(one) for one in found["llm"]])


def test_a_folder_that_is_no_nli_model_makes_the_judge_abstain(tmp_path, small):
    from workers.dsn.opening import Panel

    judges = [{"name": "n", "type": "nli", "model": "builtin:nonesuch"}, {"name": "k", "type": "keyword"}]
    panel = Panel(small(judges=judges), LocalContext(tmp_path), Settings(data=tmp_path / "data"))
    assert "builtin:nonesuch" in panel.unavailable["n"]
    with pytest.raises(InvalidInput):
        panel._opened(panel.named["n"])
