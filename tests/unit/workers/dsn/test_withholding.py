"""Unexpected errors are told without their words; expected ones as they are."""

import json
import traceback

import pytest
import redis

from shared.jobs.errors import Cancelled, HandBack, InvalidInput, LeaseLost, Retryable
from shared.jobs.local import LocalContext
from workers.dsn import evaluation
from workers.dsn.jobs import evaluate
from workers.dsn.withholding import Withheld, withholds_text

QUOTED = "a quite particular suffix"


@pytest.mark.parametrize("error", [
    KeyError(QUOTED), ValueError(QUOTED), IndexError(QUOTED), RuntimeError(QUOTED), OSError(QUOTED),
    UnicodeEncodeError("utf-8", QUOTED, 0, 1, QUOTED),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_an_unexpected_errors_words_are_nowhere_in_what_is_told(error):
    @withholds_text
    def entry():
        raise error

    with pytest.raises(Withheld) as told:
        entry()
    whole = "".join(traceback.format_exception(told.value))
    assert QUOTED not in whole
    assert type(error).__name__ in str(told.value)
    assert "test_withholding.py" in str(told.value)


@pytest.mark.parametrize("error", [
    InvalidInput("line 3 has no goal"), Retryable("down"), Cancelled("cancelled"), HandBack("handed back"),
    LeaseLost("lost"), redis.ConnectionError("gone"),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_what_the_runtime_acts_on_passes_as_it_is(error):
    @withholds_text
    def entry():
        raise error

    with pytest.raises(type(error)) as told:
        entry()
    assert told.value is error


@pytest.mark.parametrize("how", ["from", "while"])
def test_an_interruption_that_a_library_wrapped_is_still_one(how):
    @withholds_text
    def entry():
        try:
            raise Cancelled("cancelled")
        except Cancelled as cancelled:
            if how == "from":
                raise RuntimeError(QUOTED) from cancelled
            raise RuntimeError(QUOTED)  # noqa: B904

    with pytest.raises(Cancelled) as told:
        entry()
    assert QUOTED not in "".join(traceback.format_exception(told.value))


def test_what_an_entry_gives_back_is_given_back_and_its_name_stays():
    @withholds_text
    def entry(a, *, b):
        """Adds."""
        return a + b

    assert entry(1, b=2) == 3
    assert (entry.__name__, entry.__doc__) == ("entry", "Adds.")


def test_a_search_that_breaks_tells_where_and_no_text(small, tmp_path, no_key, monkeypatch):
    def broken(self, arm, run):
        raise KeyError(self.conversations[0].parts.head + QUOTED)

    monkeypatch.setattr(evaluation.Evaluation, "_attack", broken)
    said = []
    ctx = LocalContext(tmp_path, say=lambda event, data: said.append(json.dumps(data)))
    with pytest.raises(Withheld, match=r"KeyError at .*broken") as told:
        evaluate(small(n_benign=0), ctx)
    ctx.release()
    assert QUOTED not in "".join([*said, *traceback.format_exception(told.value)])
