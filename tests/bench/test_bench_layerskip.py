"""The bench runs and its counts hold."""

import pytest

from tests.bench import bench_layerskip, bench_layerskip_recipe, layerskip_models
from tests.bench.bench_layerskip_recipe import Goal, rows_of


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quick_table_compares_every_strategy(monkeypatch, tmp_path):
    monkeypatch.setattr(layerskip_models, "KEPT", tmp_path)
    table = bench_layerskip.rows(quick=True)
    whats = " ".join(row["what"] for row in table)
    assert "plain loop" in whats
    assert "self-speculative" in whats
    assert "c(7)" in whats or "skipped" in whats


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quick_recipe_table_has_every_arm_and_figure(monkeypatch, tmp_path):
    monkeypatch.setattr(layerskip_models, "KEPT", tmp_path)
    table = bench_layerskip_recipe.rows(quick=True)
    whats = [row["what"] for row in table]
    assert {"Python, trl: agreement E4", "Python, paper: CE E8", "Python, short: acceptance E2 K4"} <= set(whats)


@pytest.mark.parametrize(
    ("goal", "value", "baseline", "said", "holds"),
    [
        pytest.param(Goal(least=0.75, gain=0.2), 0.8, 0.5, "≥ 0.75, ≥ baseline +0.2", True, id="both"),
        pytest.param(Goal(least=0.75, gain=0.2), 0.8, 0.7, "≥ 0.75, ≥ baseline +0.2", False, id="gain-missed"),
        pytest.param(Goal(most=0.56), 0.57, 0.57, "≤ 0.56", False, id="too-high"),
    ],
)
def test_a_goal_says_what_it_asks_and_whether_it_holds(goal, value, baseline, said, holds):
    assert (goal.said(), goal.holds(value, baseline)) == (said, holds)


def test_recipe_rows_are_means_over_seeds_beside_the_baselines():
    figures = {("baseline", 0): 0.4, ("trl", 0): 0.7, ("baseline", 1): 0.6, ("trl", 1): 0.9}
    found = {key: {"agreement E4": value, "CE E8": 2 - value} for key, value in figures.items()}
    table = {row["what"]: row for row in rows_of("python", found)}
    row = table["Python, trl: agreement E4"]
    assert (row["ours"], row["peer"], row["ratio"], row["spread"]) == (0.8, 0.5, 1.6, "0.700 0.900")
    assert row["goal"].endswith("holds")
    assert table["Python, trl: CE E8"]["ratio"] == 1.25  # less loss is better
