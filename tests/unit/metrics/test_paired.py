"""Paired tests by worked numbers."""

import numpy as np
import pytest

from shared.metrics.paired import bootstrap_interval, effect_size, holm, t_interval, wilcoxon


def test_eight_rising_differences_have_the_least_p_of_eight_pairs():
    assert wilcoxon(np.arange(1, 9) / 100) == pytest.approx(2 / 2**8)


def test_no_difference_at_all_is_no_evidence():
    assert wilcoxon(np.zeros(12)) == 1.0


def test_holm_multiplies_by_those_that_are_left_and_never_falls():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_t_interval_of_three_numbers_is_that_worked_by_hand():
    # mean 2, sd 1, t(0.975, 2) = 4.302653, half = 4.302653/√3 = 2.484138
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(2 - 2.484138, abs=1e-6), pytest.approx(2 + 2.484138, abs=1e-6))
    assert t_interval([1.0]) == (None, None)


def test_the_bootstrap_interval_holds_the_mean_and_depends_on_the_generator_alone():
    values = [0.1, 0.2, 0.4, 0.3, 0.25]
    low, high = bootstrap_interval(values, np.random.default_rng(0))
    assert low < np.mean(values) < high
    assert (low, high) == bootstrap_interval(values, np.random.default_rng(0))


def test_the_effect_is_in_standard_deviations_of_the_differences():
    assert effect_size([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert effect_size([1.0, 1.0]) is None
