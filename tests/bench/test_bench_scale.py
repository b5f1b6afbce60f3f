"""The measurement of what a job costs the shared parts runs, and its figures hang together."""

import pytest

from tests.bench.bench_scale import rows


def test_the_limits_follow_from_the_costs():
    table = {row["what"]: row["ours"] for row in rows(quick=True)}
    life = table["life of a job: Redis"]
    assert table["jobs per second on half a core of Redis"] == pytest.approx(0.5e6 / life, rel=0.05)
    assert all(value >= 0 for value in table.values())
