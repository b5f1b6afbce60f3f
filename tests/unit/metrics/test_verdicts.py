"""Metrics of verdicts against values worked by hand."""

from itertools import pairwise

import pytest

from shared.metrics.verdicts import (
    Confusion,
    auroc_soft,
    binomial_two_sided,
    cohen_kappa,
    confusion,
    roc,
    shapley,
    wilson,
)


def test_confusion_counts_each_corner():
    assert confusion([True, True, False, False, False], [True, False, True, False, False]) == Confusion(1, 1, 1, 2)


@pytest.mark.parametrize(("counts", "accuracy", "area", "f1"), [
    pytest.param(Confusion(1, 1, 1, 2), 3 / 5, (1 / 2 + 2 / 3) / 2, 0.5, id="mixed"),
    pytest.param(Confusion(0, 0, 0, 4), 1.0, None, 0.0, id="one class only"),
    pytest.param(Confusion(0, 0, 0, 0), None, None, 0.0, id="nothing"),
])  # fmt: skip
def test_accuracy_area_and_f1(counts, accuracy, area, f1):
    assert (counts.accuracy, counts.auroc_hard, counts.f1) == (accuracy, area, f1)


def test_ties_of_scores_count_a_half():
    # positives 2, 1; negatives 1, 0: pairs 2>1, 2>0, 1=1, 1>0 → (3 + ½) / 4
    assert auroc_soft([2, 1, 1, 0], [True, True, False, False]) == 0.875
    assert auroc_soft([1, 2], [True, True]) is None


def test_the_roc_runs_from_corner_to_corner():
    assert roc([2, 1, 1, 0], [True, True, False, False]) == [(0, 0), (0, 0.5), (0.5, 1), (1, 1)]
    assert roc([1], [True]) == []


def test_the_area_under_the_roc_is_the_soft_auroc():
    scores, labels = [0, 1, 2, 3, 3, 2, 1, 1], [False, False, True, True, True, False, True, False]
    points = roc(scores, labels)
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
    assert area == pytest.approx(auroc_soft(scores, labels))


def test_kappa_by_hand():
    # p_o = 3/4; first half yes, second three quarters: p_e = .5·.75 + .5·.25 = .5 → κ = .5
    assert cohen_kappa([1, 1, 0, 0], [1, 1, 1, 0]) == pytest.approx(0.5)
    assert cohen_kappa([], []) is None
    assert cohen_kappa([1, 1], [1, 1]) is None


def test_shapley_shares_sum_to_what_all_are_worth_and_equals_get_equal_shares():
    worth = {0: 0.5, 1: 0.7, 2: 0.7, 3: 0.9}
    shares = shapley(3, lambda coalition: worth[len(coalition)])
    assert shares == pytest.approx([0.4 / 3] * 3)
    lone = shapley(2, lambda coalition: 1.0 if 0 in coalition else 0.0)
    assert lone == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize(("successes", "n", "ends"), [(3, 6, (0.1876, 0.8124)), (0, 20, (0, 0.1611))])
def test_wilson_intervals(successes, n, ends):
    assert wilson(successes, n) == pytest.approx(ends, abs=5e-5)


def test_without_items_there_is_no_interval():
    assert wilson(0, 0) is None


@pytest.mark.parametrize(("b", "c", "p"), [(0, 7, 0.015625), (1, 6, 0.125), (0, 0, 1.0), (6, 1, 0.125), (3, 3, 1.0)])
def test_mcnemar_is_the_exact_binomial(b, c, p):
    assert binomial_two_sided(b, c) == p
