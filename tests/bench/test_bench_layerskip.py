"""The bench runs and its counts hold."""

import pytest

from tests.bench import bench_layerskip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quick_table_compares_every_strategy(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_layerskip, "KEPT", tmp_path)
    table = bench_layerskip.rows(quick=True)
    whats = " ".join(row["what"] for row in table)
    assert "plain loop" in whats
    assert "self-speculative" in whats
    assert "c(7)" in whats or "skipped" in whats
