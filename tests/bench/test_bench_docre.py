"""The bench runs and every row has its columns."""

from tests.bench.__main__ import COLUMNS
from tests.bench.bench_docre import rows


def test_every_row_of_the_bench_has_its_columns():
    table = rows(quick=True)
    assert table
    assert all(set(row) == set(COLUMNS) for row in table)
