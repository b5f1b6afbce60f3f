"""The bench runs, and says what it skips."""

import pytest

from shared.models.swiglu_choice import has_triton
from tests.bench import bench_silu_compare
from tests.bench.bench_silu import rows


@pytest.mark.slow
def test_the_quick_table_has_a_row_per_shape_and_direction():
    table = rows(quick=True)
    assert sum(row["ours"] is not None for row in table) >= 4
    if not has_triton():
        assert all("skipped" in row["peer_name"] for row in table if row["ours"] is None)


@pytest.mark.slow
def test_the_comparisons_table_has_three_figures_per_activation_and_data_set():
    table = bench_silu_compare.rows(quick=True)
    assert len(table) == 3 * 3 * 3
    assert all("Holm" in row["spread"] for row in table)
    assert any("badly scaled" in row["what"] for row in table)
