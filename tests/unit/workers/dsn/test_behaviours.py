"""Behaviours files in their three forms, splits, made and rewritten targets."""

import hashlib
import json

import pytest
from pydantic import ValidationError

from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from workers.dsn.behaviours import Behaviour, benign_prompts, colours, made_target, read_behaviours, rewritten, split
from workers.dsn.colours.world import goals

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


def test_a_goal_that_the_file_has_twice_is_never_on_both_sides():
    """In other case and spacing too, whatever its id."""
    file = [Behaviour(str(n), f"{'Describe  A' if n % 2 else 'describe a'} {n // 2}", "Sure") for n in range(20)]
    for seed in range(5):
        train, test = split(file, 5, 5, seed)
        assert not {one.same_as for one in train} & {one.same_as for one in test}
    with pytest.raises(InvalidInput, match="10 different ones are too few for n_train 6 and n_test 5"):
        split(file, 6, 5, 0)


def test_goals_of_one_id_are_different_goals():
    file = [Behaviour("same", f"goal {n}", "Sure") for n in range(4)]
    assert sorted(one.goal for side in split(file, 2, 2, 0) for one in side) == [f"goal {n}" for n in range(4)]


@pytest.mark.parametrize(("text", "line"), [
    pytest.param(HARM + ",standard,,,,four\n", 5, id="after a row that is skipped"),
    pytest.param(HARM + '"Describe\nmore\nlines",standard,,,,four\n,standard,,,,five\n', 8, id="after line breaks"),
    pytest.param("goal,target\n\n\n,Sure\n", 4, id="after empty lines"),
])  # fmt: skip
def test_an_empty_goal_is_told_by_its_line_in_the_file(read, text, line):
    targets = dict.fromkeys(("one", "two", "four"), "Sure")
    with pytest.raises(InvalidInput, match=f"line {line} has no"):
        read(text, targets)


def test_rows_are_numbered_as_they_stand_in_the_file_skipped_ones_included(read):
    text = "goal,target,FunctionalCategory\na,Sure,copyright\nb,Sure,\n"
    found = read(text)
    assert [one.id for one in found.all] == ["2"]
    assert found.skipped == 1


def test_a_header_with_a_byte_order_mark_and_spaces_is_read(read):
    assert [one.goal for one in read("\ufeffgoal, Target\na,Sure\n").all] == ["a"]


def test_a_header_that_names_a_column_twice_is_refused(read):
    with pytest.raises(InvalidInput, match="names goal twice"):
        read("goal,goal\na,b\n")


def test_the_digest_of_behaviours_is_the_files_and_the_worlds_own_is_fixed(read, tmp_path):
    assert read(ADV).digest == hashlib.sha256(ADV.encode()).hexdigest()
    assert colours().digest == colours().digest
    assert len(colours().digest) == 64


def test_harmless_prompts_are_as_many_as_asked_drawn_by_the_seed_and_of_free_goals(small, tmp_path):
    ctx = LocalContext(tmp_path / "ctx")
    free = {goal.text for goal in goals(restricted=False)}
    first, again, other = (benign_prompts(small(n_benign=9, seed=seed), ctx) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 9
    assert set(first) < free
    assert benign_prompts(small(n_benign=0), ctx) == []


def test_benign_prompts_come_from_prompt_or_goal(small, tmp_path):
    judges = [{"name": "keyword", "type": "keyword"}]
    (tmp_path / "p.csv").write_text("id,prompt\n1,How are you?\n2,What time is it?\n")
    params = small(behaviours=FILE, judges=judges, benign=BENIGN, n_benign=5)
    ctx = LocalContext(tmp_path / "ctx", inputs={BENIGN: tmp_path / "p.csv"})
    assert sorted(benign_prompts(params, ctx)) == ["How are you?", "What time is it?"]
    (tmp_path / "p.csv").write_text("id,text\n1,a\n")
    with pytest.raises(InvalidInput, match="line 2 has neither prompt nor goal"):
        benign_prompts(params, ctx)
    with pytest.raises(ValidationError, match="benign"):
        small(behaviours=FILE, judges=judges, benign="builtin:tasks")
