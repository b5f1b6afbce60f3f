"""The bench runs, and says what it skips."""

import pytest

from shared.models.swiglu_choice import has_triton
from tests.bench.bench_silu import rows


@pytest.mark.slow
def test_the_quick_table_has_a_row_per_shape_and_direction():
    table = rows(quick=True)
    assert sum(row["ours"] is not None for row in table) >= 4
    if not has_triton():
        assert all("skipped" in row["peer_name"] for row in table if row["ours"] is None)
