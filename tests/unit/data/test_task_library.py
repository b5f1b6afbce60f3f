"""`builtin:tasks`, and what builtins are shipped."""

import json
import random
from collections import Counter

import pytest

from shared.data.builtin import shipped
from shared.data.instruction_tasks import read_tasks
from shared.data.tasks import INSTANCES, library, write_library

TASKS = {task.name: task for _, task in library()}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    path = shipped("tasks", tmp_path_factory.mktemp("builtin"))
    return read_tasks(path, "builtin:tasks")


def test_forty_tasks_in_eight_categories_with_three_instructions(tasks):
    assert Counter(Counter(task.category for task in tasks).values()) == {5: 8}
    assert all(len(task.templates) == 3 for task in tasks)
    texts = [template.text for task in tasks for template in task.templates]
    assert len(set(texts)) == 120


def test_every_task_has_different_instances_and_an_example_among_them(tasks):
    for task in tasks:
        assert len(task.instances) == len({each.input for each in task.instances}) == INSTANCES, task.id
        assert task.example == task.instances[0]
        assert all(each.output for each in task.instances)


def test_the_same_bytes_every_time(tmp_path):
    write_library(tmp_path / "a")
    write_library(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


CHECKS = {
    "sort_ascending": lambda given: " ".join(sorted(given.split(), key=int)),
    "sort_descending": lambda given: " ".join(sorted(given.split(), key=int)[::-1]),
    "largest_number": lambda given: max(given.split(), key=int),
    "add": lambda given: str(sum(map(int, given.split()))),
    "list_length": lambda given: str(given.count(" ") + 1),
    "sort_words": lambda given: " ".join(sorted(given.split())),
    "contains_word": lambda given: "yes" if given.split(" | ")[1] in given.split(" | ")[0].split() else "no",
    "spell_backwards": lambda given: "".join(reversed(given)),
    "count_vowels": lambda given: str(sum(given.count(vowel) for vowel in "aeiou")),
    "dash_between_letters": lambda given: "-".join(list(given)),
    "count_one_letter": lambda given: str(given.split(" | ")[0].count(given.split(" | ")[1])),
}


@pytest.mark.parametrize("name", CHECKS)
def test_outputs_are_what_the_instruction_asks_for(name):
    rng = random.Random(1)
    for _ in range(200):
        given, wanted = TASKS[name].draw(rng)
        assert wanted == CHECKS[name](given), given


def test_an_unknown_builtin_is_none(tmp_path):
    assert shipped("nonesuch", tmp_path) is None


def test_a_made_builtin_is_made_once(tmp_path):
    path = shipped("tasks", tmp_path)
    path.write_text(json.dumps({"kept": True}))
    assert shipped("tasks", tmp_path).read_text() == path.read_text()
