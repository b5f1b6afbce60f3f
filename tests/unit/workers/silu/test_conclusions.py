"""From trained arms to tables: learning rates, thresholds, pairing, corrections and sentences, worked by hand."""

import numpy as np
import pytest

from shared.jobs.catalog.silu import CompareParams
from shared.metrics.paired import t_interval
from workers.silu.conclusions import CONVERGED, Conclusions, interval, verdicts
from workers.silu.study import Arm, Trained

SEEDS = 12


def arm(val_accuracy, test_accuracy, val_loss=0.5, noisy=None, seeds=SEEDS):
    """One arm whose seeds differ by 0.001 each."""
    shift = [0.001 * seed for seed in range(seeds)]
    return Trained(
        val_loss=[[val_loss] * len(val_accuracy) for _ in shift],
        val_accuracy=[[value + each for value in val_accuracy] for each in shift],
        test_loss=[0.3 + each for each in shift], test_accuracy=[test_accuracy + each for each in shift],
        noisy={f"{sigma:g}": [value + each for each in shift] for sigma, value in (noisy or {1.0: 0.5}).items()},
    )  # fmt: skip


def concluded(arms, **params):
    """Conclusions over {(data set, activation, lr): trained}."""
    given = {"activations": ["relu", "silu"], "lr_grid": [0.01], "noise_sigmas": [1.0], "seeds": SEEDS, "epochs": 3}
    datasets = 1 + max(dataset for dataset, *_ in arms)
    names = ["digits", "cancer", "third"][:datasets]
    return Conclusions(CompareParams(**{**given, **params}), names, [Arm(*key) for key in arms], list(arms.values()))


RELU, SILU = (0, "relu", 0.01), (0, "silu", 0.01)


# Learning rates -------------------------------------------------------------------------------------------------------


def test_each_activation_takes_the_rate_of_its_own_best_validation_accuracy():
    arms = {
        (0, "relu", 0.01): arm([0.5, 0.7], 0.9), (0, "relu", 0.1): arm([0.8, 0.6], 0.99),
        (0, "silu", 0.01): arm([0.5, 0.6], 0.8), (0, "silu", 0.1): arm([0.5, 0.9], 0.7),
    }  # fmt: skip
    found = concluded(arms, lr_grid=[0.01, 0.1])
    assert found.chosen == {(0, "relu"): 0.01, (0, "silu"): 0.1}  # at the end, not the best on the way


def test_equal_accuracies_are_parted_by_the_loss():
    arms = {
        (0, "relu", 0.01): arm([0.5], 0.9, val_loss=0.6), (0, "relu", 0.1): arm([0.5], 0.9, val_loss=0.4),
        (0, "silu", 0.01): arm([0.5], 0.9, val_loss=0.1), (0, "silu", 0.1): arm([0.5], 0.9, val_loss=0.2),
    }  # fmt: skip
    found = concluded(arms, lr_grid=[0.01, 0.1], epochs=1)
    assert found.chosen == {(0, "relu"): 0.1, (0, "silu"): 0.01}


def test_the_test_part_has_no_say_in_the_rate():
    arms = {
        (0, "relu", 0.01): arm([0.9], 0.1), (0, "relu", 0.1): arm([0.8], 1.0),
        (0, "silu", 0.01): arm([0.9], 0.1), (0, "silu", 0.1): arm([0.8], 1.0),
    }  # fmt: skip
    cells = concluded(arms, lr_grid=[0.01, 0.1], epochs=1).tables().cells
    assert [cell.lr for cell in cells] == [0.01, 0.01]
    assert cells[0].accuracy.mean == pytest.approx(0.1 + 0.0055)


# Baselines ------------------------------------------------------------------------------------------------------------


def test_relu_is_the_baseline_where_it_is_compared():
    assert concluded({RELU: arm([0.5], 0.5), SILU: arm([0.5], 0.5)}).baseline == "relu"


def test_without_relu_the_first_named_is_the_baseline():
    arms = {(0, "silu", 0.01): arm([0.5], 0.5), (0, "gelu", 0.01): arm([0.5], 0.6)}
    found = concluded(arms, activations=["silu", "gelu"])
    assert found.baseline == "silu"
    cells = found.tables().cells
    assert cells[0].against is None
    assert cells[1].against.difference == pytest.approx(0.1)


# Pairing --------------------------------------------------------------------------------------------------------------


def test_differences_are_paired_so_that_what_seeds_share_cancels():
    """Seeds spread over .011, differences over nothing: a test that pairs sees a certain gain."""
    (pair,) = [
        cell.against for cell in concluded({RELU: arm([0.5], 0.5), SILU: arm([0.5], 0.51)}).tables().cells
        if cell.against
    ]  # fmt: skip
    assert pair.difference == pytest.approx(0.01)
    assert pair.high - pair.low < 1e-9
    assert pair.p == pytest.approx(2 / 2**SEEDS)
    assert pair.significant


def test_equal_arms_have_p_one_and_no_effect():
    (pair,) = [cell.against for cell in concluded({RELU: arm([0.5], 0.5), SILU: arm([0.5], 0.5)}).tables().cells[1:]]
    assert (pair.difference, pair.p, pair.p_holm, pair.significant) == (0.0, 1.0, 1.0, False)
    assert pair.effect is None  # no spread to divide by


def test_holms_correction_runs_over_the_comparisons_of_one_table():
    arms = {
        (dataset, name, 0.01): arm([0.5], 0.5 + 0.01 * (name != "relu"))
        for dataset in range(2) for name in ("relu", "silu", "gelu")
    }  # fmt: skip
    tables = concluded(arms, activations=["relu", "silu", "gelu"]).tables()
    pairs = [cell.against for cell in tables.cells if cell.against]
    assert len(pairs) == 4
    assert [pair.p_holm for pair in pairs] == pytest.approx([4 * pairs[0].p] * 4)


def test_below_ten_seeds_there_is_a_bootstrap_interval_and_no_test():
    arms = {RELU: arm([0.5], 0.5, seeds=9), SILU: arm([0.5], 0.6, seeds=9)}
    (pair,) = [cell.against for cell in concluded(arms, seeds=9).tables().cells[1:]]
    assert (pair.p, pair.p_holm, pair.significant) == (None, None, None)
    assert pair.bootstrap_low == pytest.approx(0.1)
    assert pair.bootstrap_high == pytest.approx(0.1)


def test_from_ten_seeds_on_there_is_a_test_and_no_bootstrap():
    arms = {RELU: arm([0.5], 0.5, seeds=10), SILU: arm([0.5], 0.6, seeds=10)}
    (pair,) = [cell.against for cell in concluded(arms, seeds=10).tables().cells[1:]]
    assert (pair.bootstrap_low, pair.bootstrap_high) == (None, None)
    assert pair.significant is True


@pytest.mark.parametrize(("alpha", "significant"), [(0.05, True), (0.0001, False)])
def test_alpha_decides_what_is_significant(alpha, significant):
    tables = concluded({RELU: arm([0.5], 0.5), SILU: arm([0.5], 0.6)}, alpha=alpha).tables()
    assert tables.cells[1].against.significant is significant


# Convergence ----------------------------------------------------------------------------------------------------------


def test_an_epoch_counts_from_one_and_is_the_first_at_or_above_the_threshold():
    arms = {RELU: arm([0.1, 0.2, 0.9], 0.5), SILU: arm([0.1, 0.9, 0.2], 0.5)}
    rows = concluded(arms, threshold=0.9).tables().convergence
    assert [row.epochs.mean for row in rows] == [3.0, 2.0]
    assert [row.not_reached for row in rows] == [0, 0]
    assert rows[1].against.difference == -1.0


def test_the_threshold_is_a_share_of_the_best_mean_over_activations():
    arms = {RELU: arm([0.2, 0.4, 0.6], 0.5), SILU: arm([0.2, 0.8, 0.7], 0.5)}
    rows = concluded(arms).tables().convergence
    best = 0.8 + 0.001 * (SEEDS - 1) / 2
    assert [row.threshold for row in rows] == pytest.approx([CONVERGED * best] * 2)
    assert rows[0].not_reached == SEEDS


def test_seeds_that_never_arrive_count_one_epoch_more_and_are_never_dropped():
    slow = arm([0.1, 0.1, 0.1], 0.5)
    slow.val_accuracy[0] = [0.1, 0.95, 0.95]
    rows = concluded({RELU: arm([0.95] * 3, 0.5), SILU: slow}, threshold=0.9).tables().convergence
    assert rows[1].not_reached == SEEDS - 1
    assert rows[1].epochs.mean == pytest.approx((2 + 4 * (SEEDS - 1)) / SEEDS)


# Robustness -----------------------------------------------------------------------------------------------------------


def test_noise_is_compared_at_every_sigma():
    arms = {
        RELU: arm([0.5], 0.9, noisy={0.5: 0.8, 2.0: 0.4}), SILU: arm([0.5], 0.9, noisy={0.5: 0.7, 2.0: 0.6})
    }  # fmt: skip
    rows = concluded(arms, noise_sigmas=[0.5, 2.0]).tables().robustness
    assert [(row.sigma, row.activation) for row in rows] == [(0.5, "relu"), (0.5, "silu"), (2.0, "relu"), (2.0, "silu")]
    assert [row.against.difference for row in rows if row.against] == pytest.approx([-0.1, 0.2])


# Verdicts -------------------------------------------------------------------------------------------------------------


def said(arms, **params):
    found = concluded(arms, **params)
    return {each.claim: each for each in verdicts(found.params, found.baseline, found.tables())}


def test_there_is_a_verdict_per_activation_and_claim_and_none_for_the_baseline():
    found = said({RELU: arm([0.5], 0.5), SILU: arm([0.5], 0.5)})
    assert set(found) == {
        "silu is more accurate than relu", "silu converges faster than relu", "silu is more robust to noise than relu",
    }  # fmt: skip


def test_the_same_study_may_support_one_claim_and_not_another():
    arms = {
        RELU: arm([0.1, 0.2, 0.9], 0.5, noisy={1.0: 0.5}), SILU: arm([0.9, 0.9, 0.9], 0.5, noisy={1.0: 0.4}),
    }  # fmt: skip
    found = said(arms, threshold=0.9)
    assert found["silu is more accurate than relu"].verdict == "not supported"
    assert found["silu converges faster than relu"].verdict == "supported"
    assert found["silu is more robust to noise than relu"].verdict == "not supported"
    assert "-0.1000 accuracy" in found["silu is more robust to noise than relu"].sentence


def test_an_effect_that_changes_its_sign_between_data_sets_is_mixed():
    arms = {
        (0, "relu", 0.01): arm([0.5], 0.5), (0, "silu", 0.01): arm([0.5], 0.6),
        (1, "relu", 0.01): arm([0.5], 0.5), (1, "silu", 0.01): arm([0.5], 0.4),
    }  # fmt: skip
    found = said(arms)["silu is more accurate than relu"]
    assert found.verdict == "mixed"
    assert "digits: +0.1000" in found.sentence
    assert "cancer: -0.1000" in found.sentence


def test_too_few_seeds_support_nothing_however_large_the_effect():
    arms = {RELU: arm([0.5], 0.1, seeds=9), SILU: arm([0.5], 0.9, seeds=9)}
    found = said(arms, seeds=9)["silu is more accurate than relu"]
    assert found.verdict == "not supported"
    assert "too few seeds for a test" in found.sentence
    assert "significant" not in found.sentence


def test_no_difference_is_said_as_such():
    found = said({RELU: arm([0.5], 0.5), SILU: arm([0.5], 0.5)})["silu is more accurate than relu"]
    assert "no significant difference, Holm p 1" in found.sentence


# Intervals ------------------------------------------------------------------------------------------------------------


def test_an_interval_is_students_over_seeds():
    values = [0.9, 0.92, 0.91, 0.95]
    found = interval(values)
    assert (found.mean, found.sd) == (pytest.approx(0.92), pytest.approx(float(np.std(values, ddof=1))))
    assert (found.low, found.high) == pytest.approx(t_interval(values))
    half = 3.182446305 * found.sd / 2  # t of 3 degrees of freedom
    assert found.high - found.mean == pytest.approx(half, rel=1e-6)


def test_one_seed_has_a_mean_and_no_spread():
    found = interval([0.5])
    assert (found.mean, found.sd) == (0.5, None)
