"""Retrieval metrics by hand, and what is said over queries."""

import numpy as np
import pytest

from shared.metrics.retrieval import (
    all_metrics,
    average_precision,
    bootstrap_interval,
    capped_recall_at,
    macro_mean,
    ndcg_at,
    overlap_at,
    pearson,
    precision_at,
    r_precision,
    recall_at,
    reciprocal_rank,
    sign_test,
)  # fmt: skip

# R = 4: one relevant candidate is never ranked among the ten, so it stands at place 11
REL = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        pytest.param(precision_at(REL, 1), 1, id="P@1"),
        pytest.param(precision_at(REL, 5), 0.4, id="P@5"),
        pytest.param(precision_at(REL, 10), 0.3, id="P@10"),
        pytest.param(ndcg_at(REL, 10), 0.724626, id="nDCG@10"),  # 1.856207 / 2.561606
        pytest.param(reciprocal_rank(REL), 1, id="MRR"),
        pytest.param(r_precision(REL), 0.5, id="R-precision"),
        pytest.param(recall_at(REL, 10), 0.75, id="recall@10"),
        pytest.param(capped_recall_at(REL, 2), 0.5, id="capped-recall@2"),
    ],
)
def test_metrics_by_hand(value, wanted):
    assert value == pytest.approx(wanted, abs=1e-6)


def test_average_precision_divides_by_all_relevant_ones():
    assert average_precision(REL[:10]) * 3 / 4 == pytest.approx(0.541667, abs=1e-6)  # (1 + 2/3 + 3/6)/4
    assert average_precision(REL) == pytest.approx((1 + 2 / 3 + 3 / 6 + 4 / 11) / 4)


def test_precision_keeps_its_denominator_where_few_are_relevant():
    assert precision_at(np.array([1, 0]), 10) == 0.1
    assert ndcg_at(np.array([1, 0]), 10) == 1.0
    assert reciprocal_rank(np.zeros(3)) == 0


def test_every_metric_is_one_for_a_perfect_ranking_at_its_size():
    values = all_metrics(np.array([1, 1, 0, 0]), [2])
    assert set(values.values()) == {1.0}
    assert set(values) == {"precision@2", "recall@2", "capped_recall@2", "ndcg@2", "mrr", "map", "r_precision"}


def test_macro_is_the_mean_of_category_means():
    assert macro_mean(np.array([1.0, 1, 1, 0, 0.5]), ["a", "a", "a", "b", None]) == 0.5
    assert macro_mean(np.array([1.0]), [None]) is None


def test_overlap_counts_common_tasks():
    assert overlap_at("abcde", "edxyz", 5) == 0.4


def test_the_bootstrap_is_seeded_and_covers_the_mean():
    values = np.random.default_rng(0).uniform(size=200)
    interval = bootstrap_interval(values, 1000, 42)
    assert interval == bootstrap_interval(values, 1000, 42) != bootstrap_interval(values, 1000, 43)
    half = 1.96 * values.std() / 200**0.5  # the normal interval, for comparison
    assert interval.low == pytest.approx(values.mean() - half, abs=0.01)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.01)
    assert bootstrap_interval(np.zeros(0), 100, 0) == (None, None)


def test_the_sign_test_ignores_ties():
    found = sign_test(np.array([1.0, 1, 1, 1, 1, 0]), np.array([0.0, 0, 0, 0, 0, 0]))
    assert (found.better, found.worse, found.p) == (5, 0, pytest.approx(2 * 0.5**5))
    assert sign_test(np.zeros(3), np.zeros(3)) == (0, 0, 1.0)


def test_pearson_is_undefined_where_a_side_is_constant():
    assert pearson(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])) == pytest.approx(1)
    assert pearson(np.array([1.0, 1, 1]), np.array([0.0, 1, 0])) is None
