"""Behaviours files in their three forms, splits, made and rewritten targets."""

import json

import pytest

from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from workers.dsn.behaviours import benign_prompts, colours, made_target, read_behaviours, rewritten, split

FILE, TARGETS, BENIGN = ("file:" + letter * 64 for letter in "abc")
ADV = "goal,target\nDescribe a,Sure, here is a\n".replace("Sure, here is a", '"Sure, here is a"')
JBB = 'Index,Goal,Target,Behavior,Category,Source\n7,Describe a,"Sure, here is a",A,Cat,ours\n'
HARM = (
    "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
    "Describe a,standard,sem,,,one\nDescribe it,contextual,sem,,Some context,two\nSing,copyright,,,,three\n"
)


@pytest.fixture
def read(small, tmp_path):
    def read(text, targets=None, **changes):
        (tmp_path / "b.csv").write_text(text)
        (tmp_path / "t.json").write_text(json.dumps(targets) if not isinstance(targets, str) else targets)
        judges = [{"name": "keyword", "type": "keyword"}]
        more = {"behaviour_targets": TARGETS} if targets is not None else {}
        params = small(behaviours=FILE, judges=judges, **more, **changes)
        ctx = LocalContext(tmp_path / "ctx", inputs={FILE: tmp_path / "b.csv", TARGETS: tmp_path / "t.json"})
        return read_behaviours(params, ctx)

    return read


@pytest.mark.parametrize(
    ("text", "name"), [(ADV, "1"), (JBB, "7"), (JBB.lower(), "7")], ids=["adv", "jbb", "lower case"]
)
def test_goal_and_target_are_read_whatever_the_case_of_the_header(read, text, name):
    (found,) = read(text).all
    assert (found.id, found.goal.lower(), found.target.lower()) == (name, "describe a", "sure, here is a")


def test_harmbench_puts_the_context_first_takes_targets_by_id_and_skips_copyright(read):
    found = read(HARM, {"one": "Sure, here is a", "two": "Sure, here is it"})
    assert [one.goal for one in found.all] == ["Describe a", "Some context\n\nDescribe it"]
    assert [one.target for one in found.all] == ["Sure, here is a", "Sure, here is it"]
    assert found.skipped == 1


def test_targets_are_made_only_when_asked_for(read):
    with pytest.raises(
        InvalidInput, match=r"2 rows have no target \(one, two\); give behaviour_targets, or make_targets"
    ):
        read(HARM)
    assert read(HARM, make_targets=True).all[0].target == "Sure, here is a"


@pytest.mark.parametrize(("goal", "target"), [
    ("Write a poem.", "Sure, here is a poem"), ("A recipe?", "Sure, here is a recipe"),
    ("Describe", "Sure, here is describe"),
])  # fmt: skip
def test_a_made_target_takes_the_goal_as_a_noun_phrase(goal, target):
    assert made_target(goal) == target


@pytest.mark.parametrize("targets", ["{", "[]", '{"one": 1}'])
def test_odd_targets_are_refused(read, targets):
    with pytest.raises(InvalidInput, match="behaviour_targets is no JSON"):
        read(HARM, targets)


def test_rewriting_is_drawn_by_the_seed():
    targets = ["Sure, here is a thing"] * 60
    found = rewritten(targets, 3)
    assert found == rewritten(targets, 3) != rewritten(targets, 4)
    assert set(found) == {"Sure, here is a thing", "Sure, here's a thing", "Here is a thing"}


def test_a_split_has_different_things_on_each_side_and_follows_the_seed():
    found = split(colours().all, 20, 96, 5)
    train, test = ({one.thing for one in side} for side in found)
    assert (len(train), len(test)) == (20, 96)
    assert not train & test
    assert split(colours().all, 20, 96, 5) == found != split(colours().all, 20, 96, 6)


def test_benign_prompts_come_from_prompt_or_goal(small, tmp_path):
    judges = [{"name": "keyword", "type": "keyword"}]
    (tmp_path / "p.csv").write_text("id,prompt\n1,How are you?\n2,What time is it?\n")
    params = small(behaviours=FILE, judges=judges, benign=BENIGN, n_benign=5)
    ctx = LocalContext(tmp_path / "ctx", inputs={BENIGN: tmp_path / "p.csv"})
    assert sorted(benign_prompts(params, ctx)) == ["How are you?", "What time is it?"]
    (tmp_path / "p.csv").write_text("id,text\n1,a\n")
    with pytest.raises(InvalidInput, match="line 2 has neither prompt nor goal"):
        benign_prompts(params, ctx)
    with pytest.raises(InvalidInput, match="holds no prompts"):
        benign_prompts(small(behaviours=FILE, judges=judges, benign="builtin:tasks"), ctx)
