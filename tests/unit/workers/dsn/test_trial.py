"""One trial: messages answered once, items judged once, who chooses, random suffixes, progress, what is told early."""

import json

import pytest

from shared.jobs.errors import InvalidInput, Permanent, Retryable
from shared.jobs.local import LocalContext
from workers.dsn import trial as trials
from workers.dsn.colours.world import VOCABULARY
from workers.dsn.judges import Judged
from workers.dsn.trial import BATCH, Progress, Trial, short_digest

FILE = "file:" + "b" * 64


class Seeing:
    """A judge that remembers what it was shown."""

    name, votes, stand_in = "seeing", True, False

    def __init__(self):
        self.items = []

    def judge(self, items):
        self.items += items
        return [Judged(True)] * len(items)


@pytest.fixture
def trial(small, tmp_path, no_key):
    """A trial whose only judge is a `Seeing`: `trial(…params)` gives both."""
    opened = []

    def make(**changes):
        ctx = LocalContext(tmp_path / f"ctx{len(opened)}")
        opened.append(ctx)
        found, judge = Trial(small(judges=[{"name": "seeing", "type": "keyword"}], **changes), ctx), Seeing()
        found.panel._judges["seeing"] = judge
        return found, judge

    yield make
    for ctx in opened:
        ctx.release()


@pytest.mark.parametrize(("sees", "shown"), [(False, ""), (True, "f01 f02")])
def test_judges_see_the_goal_alone_unless_they_are_to_see_the_suffix(trial, sees, shown):
    opened, judge = trial(judge_sees_suffix=sees)
    prompts = opened.split.test[:2]
    opened.judged(prompts, "f01 f02", ["a", "b"])
    assert [item.suffix for item in judge.items] == [shown] * 2
    assert [item.goal for item in judge.items] == [one.goal for one in prompts]


def test_a_cell_is_answered_and_judged_once(trial):
    opened, judge = trial()
    for _ in range(2):
        opened.cell("test/x/0", ("x", 0, "test"), "", opened.split.test)
    assert len(judge.items) == len(opened.split.test) == opened.answered


@pytest.mark.parametrize(("judges", "chosen"), [
    pytest.param(["keyword", "nli", "exact"], "exact", id="the truth"),
    pytest.param(["keyword", "nli"], "nli", id="a reading judge"),
    pytest.param(["keyword"], "keyword", id="keywords where there is nothing else"),
])  # fmt: skip
def test_who_chooses_suffixes(small, tmp_path, no_key, judges, chosen):
    kinds = {"keyword": {}, "exact": {}, "nli": {"model": "builtin:colours-nli"}}
    named = [{"name": name, "type": name, **kinds[name]} for name in judges]
    assert Trial(small(judges=named), LocalContext(tmp_path)).choosing == chosen


def test_two_voters_choose_by_their_majority(small, tmp_path, no_key):
    judges = [{"name": name, "type": "keyword", "votes": True} for name in ("a", "b")]
    assert Trial(small(judges=judges), LocalContext(tmp_path)).choosing == "majority"


def test_random_suffixes_follow_the_seed_and_are_of_the_attacks_alphabet(trial):
    opened, _ = trial()
    forbidden = opened.target.forbidden(allow_non_ascii=False)
    drawn = opened.random_suffixes(6, 5, lambda: forbidden)
    assert drawn == opened.random_suffixes(6, 5, lambda: forbidden)
    assert len(set(drawn)) == 5
    assert all(len(text.split()) == 6 and not set(text.split()) & set(VOCABULARY[:6]) for text in drawn)


# Once -----------------------------------------------------------------------------------------------------------------


class Answering:
    """A decoder that answers by a number and remembers its batches."""

    def __init__(self):
        self.batches = []

    def answers(self, prompts):
        self.batches.append(len(prompts))
        return [f"answer {sum(self.batches[:-1]) + n}" for n in range(len(prompts))]


@pytest.fixture
def answering(trial):
    opened, judge = trial()
    opened.decoder = Answering()
    return opened, judge


def test_a_message_is_decoded_once_whoever_asks_and_the_answers_come_in_order(answering):
    opened, _ = answering
    assert opened.answers(["a", "b", "a"]) == ["answer 0", "answer 1", "answer 0"]
    assert opened.answers(["c", "b"]) == ["answer 2", "answer 1"]
    assert opened.decoder.batches == [2, 1]
    assert opened.answered == 3


@pytest.mark.parametrize(("count", "batches"), [
    pytest.param(2 * BATCH + 5, [BATCH, BATCH, 5], id="a rest"),
    pytest.param(2 * BATCH, [BATCH, BATCH], id="a multiple of the batch has no empty one after it"),
    pytest.param(0, [], id="nothing"),
])  # fmt: skip
def test_answers_are_decoded_in_batches_and_each_is_saved(answering, monkeypatch, count, batches):
    opened, _ = answering
    saves = []
    monkeypatch.setattr(opened.vault, "save", lambda: saves.append(opened.answered))
    opened.answers([f"message {n}" for n in range(count)])
    assert opened.decoder.batches == batches
    assert saves == [sum(batches[: n + 1]) for n in range(len(batches))]


def test_an_empty_answer_is_an_answer(answering, monkeypatch):
    opened, _ = answering
    monkeypatch.setattr(opened.decoder, "answers", lambda prompts: [""] * len(prompts))
    assert opened.answers(["a"]) == [""]
    monkeypatch.setattr(opened.decoder, "answers", lambda prompts: pytest.fail("decoded again"))
    assert opened.answers(["a"]) == [""]


def test_a_judge_hears_the_same_answer_to_the_same_goal_once_and_another_answer_anew(trial):
    opened, judge = trial()
    prompts = opened.split.test[:2]
    opened.judged(prompts, "f01", ["a", "b"])
    opened.judged(prompts, "f02", ["a", "c"])  # the suffix isn't shown: the first item is known
    assert [(item.goal, item.response) for item in judge.items] == [
        (prompts[0].goal, "a"), (prompts[1].goal, "b"), (prompts[1].goal, "c")]  # fmt: skip


def test_with_the_suffix_shown_it_is_another_item(trial):
    opened, judge = trial(judge_sees_suffix=True)
    for suffix in ("f01", "f02"):
        opened.judged(opened.split.test[:1], suffix, ["a"])
    assert [item.suffix for item in judge.items] == ["f01", "f02"]


def test_the_same_answer_to_two_goals_is_judged_for_each(trial):
    opened, judge = trial()
    opened.judged(opened.split.test[:2], "", ["a", "a"])
    assert len({item.key for item in judge.items}) == 2


def test_verdicts_and_scores_come_in_the_order_of_the_prompts(trial, monkeypatch):
    opened, judge = trial()
    said = {"yes": Judged(True, 0.7), "no": Judged(False, -0.2), "eh": Judged(None)}
    monkeypatch.setattr(judge, "judge", lambda items: [said[item.response] for item in items])
    verdicts, scores = opened.judged(opened.split.test[:4], "", ["no", "yes", "eh", "yes"])
    assert verdicts == {"seeing": [False, True, None, True]}
    assert scores == {"seeing": [-0.2, 0.7, None, 0.7]}


# Judges that can't be heard -------------------------------------------------------------------------------------------


class Broken:
    """A judge that can't be heard."""

    name, votes, stand_in = "seeing", True, False

    def __init__(self, error):
        self.error = error

    def judge(self, items):
        raise self.error


def test_a_judge_that_is_not_heard_abstains_and_the_reason_is_kept(trial):
    opened, _ = trial()
    opened.panel._judges["seeing"] = Broken(Permanent("the endpoint knows no such model"))
    assert opened.judged(opened.split.test[:2], "", ["a", "b"])[0] == {"seeing": [None, None]}
    assert opened.panel.about()[0].unavailable == "the endpoint knows no such model"


def test_an_endpoint_that_is_down_makes_the_job_be_tried_again(trial):
    opened, _ = trial()
    opened.panel._judges["seeing"] = Broken(Retryable("connection refused"))
    with pytest.raises(Retryable):
        opened.judged(opened.split.test[:1], "", ["a"])
    assert not opened.vault.starting("verdict/")


def test_a_resumed_job_still_says_which_judge_was_not_heard(small, tmp_path, key):
    params = small(judges=[{"name": "seeing", "type": "keyword"}])
    first = LocalContext(tmp_path / "ctx")
    opened = Trial(params, first)
    opened.panel._judges["seeing"] = Broken(Permanent("gone"))
    opened.judged(opened.split.test[:1], "", ["a"])
    first.release()
    second = LocalContext(tmp_path / "ctx")
    resumed = Trial(params, second)
    resumed.panel._judges["seeing"] = Broken(AssertionError("asked again"))
    assert resumed.judged(resumed.split.test[:1], "", ["a"])[0] == {"seeing": [None]}
    assert resumed.panel.about()[0].unavailable == "gone"
    second.release()


# Progress, and what is told early -------------------------------------------------------------------------------------


def test_progress_never_passes_its_total_and_ends_with_it(tmp_path):
    said = []
    ctx = LocalContext(tmp_path, say=lambda event, data: said.append((data["done"], data["total"])))
    progress = Progress(ctx, total=10)
    for count in (4, 0, 9):
        progress.add(count)
    progress.total = 20
    progress.finish()
    ctx.release()
    assert said == [(4, 10), (13, 13), (20, 20)]


def test_a_harmless_prompt_that_leaves_no_room_is_told_before_anything_runs(small, tmp_path, no_key):
    (tmp_path / "p.csv").write_text("prompt\nred house\n" + "house " * 250 + "\n")
    ctx = LocalContext(tmp_path / "ctx", inputs={FILE: tmp_path / "p.csv"})
    with pytest.raises(InvalidInput, match=r"benign prompt \d: 2\d\d tokens and up to 32 of answer don't fit the con"):
        Trial(small(benign=FILE), ctx)
    ctx.release()


def test_what_is_told_of_a_text_is_a_digest():
    assert short_digest("a") == "ca978112ca1bbdca"
    assert trials.digest("a").startswith(short_digest("a"))


def test_the_key_of_an_item_holds_neither_goal_nor_answer(trial):
    opened, judge = trial()
    opened.judged(opened.split.test[:1], "", ["a quite particular answer"])
    assert judge.items[0].key.startswith("verdict/")
    assert "particular" not in judge.items[0].key
    assert json.dumps(judge.items[0].key).isascii()
