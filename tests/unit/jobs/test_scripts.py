"""What holds of the Lua scripts as texts."""

import pytest

from shared.jobs.store import script_texts

TEXTS = script_texts()


@pytest.mark.parametrize("name", TEXTS)
def test_no_script_decodes_json(name):
    assert "cjson" not in TEXTS[name]
    assert "cmsgpack" not in TEXTS[name]


@pytest.mark.parametrize("name", TEXTS)
def test_a_script_says_what_it_does_and_takes(name):
    head = TEXTS[name].split("\n\n")[0] if name == "lib" else TEXTS[name]
    assert head.startswith("-- ")
    assert name == "lib" or "ARGV:" in head


@pytest.mark.parametrize("name", TEXTS)
def test_time_comes_from_one_place(name):
    assert TEXTS[name].count("'TIME'") == (name == "lib")
    assert "os.time" not in TEXTS[name]


@pytest.mark.parametrize("name", TEXTS)
def test_lines_fit(name):
    assert max(map(len, TEXTS[name].splitlines())) <= 120
