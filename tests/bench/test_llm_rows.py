"""The rows of calls to models can be measured, and their goals are met."""

import pytest

from tests.bench.llm_rows import local_batching_rows, overhead_rows


@pytest.mark.slow
def test_our_side_of_a_call_fits_into_its_goal():
    for row in overhead_rows(quick=True):
        assert row["ratio"] >= row["goal"], row


@pytest.mark.slow
def test_twenty_callers_together_are_faster_than_one_by_one():
    rows = {row["what"]: row for row in local_batching_rows(quick=True)}
    assert rows["local model: 20 callers"]["ratio"] > 1.5
