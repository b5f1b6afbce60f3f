"""docs/architecture.md names, for each invariant, a test that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (I\d+) \| (.+?) \| (.+?) \|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
FUNCTIONS = {
    name
    for path in (ROOT / "tests").rglob("*.py")
    for name in re.findall(r"def (\w+)\(", path.read_text(encoding="utf-8"))
}


def test_the_invariants_are_numbered_without_gap():
    assert [number for number, _, _ in ROWS] == [f"I{n}" for n in range(1, len(ROWS) + 1)]


@pytest.mark.parametrize(("number", "sentence", "checks"), ROWS, ids=[row[0] for row in ROWS])
def test_an_invariant_is_one_sentence_and_names_its_tests(number, sentence, checks):
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0
    named = re.findall(r"`(\w+)`", checks)
    assert named
    assert set(named) <= FUNCTIONS
