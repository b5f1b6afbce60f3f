"""The speed formula by worked numbers, policies, the confidence threshold, and measured costs."""

import math

import pytest
import torch

from workers.layerskip.answers import Step
from workers.layerskip.confidence import LEAST_DRAFTS, Confidence
from workers.layerskip.costs import measure
from workers.layerskip.policies import PRIOR, Adaptive, Heuristic, Static
from workers.layerskip.theory import FREE, CostModel, speedup, speedup_of, tokens_per_step


@pytest.mark.parametrize(
    ("drafts", "expected"), [(1, 1.44), (2, 1.626667), (4, 1.6808), (6, 1.58057), (8, 1.44297), (12, 1.181281)]
)
def test_speedups_at_a_quarter_and_four_fifths_are_the_tables(drafts, expected):
    assert speedup(0.8, 8, drafts, 32) == pytest.approx(expected, abs=5e-6)


def test_a_measured_rate_gives_the_tables_tokens_and_speedup():
    tokens = 1 + 0.689 * 12
    assert tokens == pytest.approx(9.268, abs=5e-4)
    assert speedup_of(tokens, 8, 12, 32, FREE) == pytest.approx(2.317, abs=5e-4)


@pytest.mark.parametrize(
    ("share", "acceptance", "drafts", "expected"),
    [
        (8, 0.5, 2, 1.40),
        (8, 0.8, 5, 2.27),
        (16, 0.7, 2, 1.46),
        (16, 0.95, 9, 2.47),
        (32, 0.9, 3, 1.38),
        (48, 0.8, 1, 1.03),
    ],
)
def test_the_best_draft_length_and_speedup_are_the_tables(share, acceptance, drafts, expected):
    best = max(range(1, 33), key=lambda K: speedup(acceptance, share, K, 64))
    assert best == drafts
    assert speedup(acceptance, share, best, 64) == pytest.approx(expected, abs=0.006)


def test_one_draft_pays_where_acceptance_is_above_the_exits_share():
    assert speedup(0.26, 8, 1, 32) > 1 > speedup(0.24, 8, 1, 32)


def test_where_a_pass_costs_what_its_tokens_do_nothing_is_won():
    bound = CostModel({1: 1.0, 64: 64.0}, 0.0, {1: 1.0, 64: 64.0})
    assert speedup(1.0, 8, 5, 32, bound) == pytest.approx(1.0)
    assert speedup(0.7, 8, 5, 32, bound) < 1


def test_certain_drafts_give_all_of_them_and_one():
    assert tokens_per_step(1.0, 4) == 5
    assert speedup(1.0, 8, 4, 32) == pytest.approx(32 * 5 / (4 * 8 + 32))


def test_costs_between_measured_points_are_interpolated_and_go_on_beyond():
    costs = CostModel({1: 1.0, 3: 2.0, 5: 3.0}, 0.1, {1: 1.0, 3: 1.0})
    assert [costs.of_pass(n) for n in (1, 2, 4, 7)] == [1.0, 1.5, 2.5, 4.0]


def test_measured_costs_are_relative_to_one_token(micro_decoder):
    costs = measure(micro_decoder(2), 20, rows=(1, 2, 3), rounds=3)
    assert costs.model.c[1] == costs.model.c_head[1] == 1.0
    assert costs.layer_s > 0
    assert costs.model.h > 0
    assert set(costs.result.c) == {"1", "2", "3"}


# Policies -------------------------------------------------------------------------------------------------------------


def test_the_heuristic_adds_two_after_a_whole_draft_and_takes_one_after_any_other():
    policy = Heuristic(2, 5, 0.0, transient=False)
    policy.learn(Step(2, 5, 5), None)
    assert policy.plan().drafts == 7
    policy.learn(Step(2, 7, 6), None)
    assert policy.plan().drafts == 6
    for _ in range(10):
        policy.learn(Step(2, 6, 0), None)
    assert policy.plan().drafts == 1


@pytest.mark.parametrize(("transient", "after"), [(True, 5), (False, 7)])
def test_only_the_transient_heuristic_begins_again_with_each_prompt(transient, after):
    policy = Heuristic(2, 5, 0.0, transient)
    policy.learn(Step(2, 5, 5), None)
    policy.begin()
    assert policy.plan().drafts == after


def test_the_static_policy_never_changes():
    policy = Static(2, 5)
    policy.learn(Step(2, 5, 0), None)
    assert policy.plan() == (2, 5, False)


def test_the_adaptive_policy_looks_every_eighth_step_and_begins_with_its_prior():
    policy = Adaptive(8, FREE)
    plans = [policy.plan() for _ in range(17)]
    assert [number for number, plan in enumerate(plans) if plan.look] == [0, 8, 16]
    assert policy.acceptance(3) == pytest.approx(PRIOR[0] / sum(PRIOR))


def test_the_adaptive_policy_moves_to_the_exit_that_is_accepted():
    policy = Adaptive(4, FREE)
    for _ in range(20):
        policy.learn(Step(1, 2, 0), [[False] * 3, [True] * 3, [True] * 3])
    assert policy.acceptance(1) < 0.1 < 0.9 < policy.acceptance(2)
    assert policy.plan().exit_layer == 2


def test_the_adaptive_policy_decodes_plainly_where_nothing_pays():
    policy = Adaptive(4, FREE)
    for _ in range(40):
        policy.learn(Step(1, 2, 0), [[False] * 3] * 3)
    assert policy.plan().drafts == 0


def test_a_policys_state_goes_through_a_checkpoint():
    policy, again = Adaptive(4, FREE), Adaptive(4, FREE)
    policy.plan()
    policy.learn(Step(1, 2, 1), None)
    again.restore(policy.state())
    assert again.state() == policy.state()
    assert again.plan() == policy.plan()


# Confidence -----------------------------------------------------------------------------------------------------------


def drafting(confidence, probabilities):
    """Whether each token of such probability (of two) lets the draft go on."""
    return [confidence.sure(torch.tensor([math.log(p), math.log(1 - p)]), 0) for p in probabilities]


def test_a_draft_ends_after_a_token_below_the_threshold():
    assert drafting(Confidence(0.4), [0.9, 0.41, 0.39]) == [True, True, False]


def test_without_a_threshold_nothing_ends_a_draft_and_nothing_is_learnt():
    confidence = Confidence()
    assert drafting(confidence, [1e-6]) == [True]
    confidence.learn(0, 1)
    assert (confidence.threshold, confidence.cuts) == (0.0, False)


def test_the_threshold_moves_to_where_good_and_bad_drafts_part():
    confidence = Confidence(0.4)
    for _ in range(3):
        drafting(confidence, [0.9, 0.8, 0.6])
        confidence.learn(2, 3)  # the third is refused
    assert confidence.threshold == pytest.approx(0.8)
    assert drafting(confidence, [0.6]) == [False]


def test_a_good_draft_held_back_costs_three_bad_ones_made():
    confidence = Confidence(0.1)
    for p, stood in ((0.9, 1), (0.5, 0), (0.5, 0), (0.4, 1), (0.3, 0), (0.2, 0)):
        drafting(confidence, [p])
        confidence.learn(stood, 1)
    # At .9 half the good ones are held back (cost 3/2); at .4 half the bad ones are let through (cost 1/2).
    assert confidence.threshold == pytest.approx(0.4)


def test_too_few_drafts_or_none_refused_leave_the_threshold():
    few, good = Confidence(0.4), Confidence(0.4)
    for number in range(LEAST_DRAFTS - 1):
        drafting(few, [0.5 + number / 20])
        few.learn(number % 2, 1)
    drafting(good, [0.9] * 8)
    good.learn(8, 8)
    assert few.threshold == good.threshold == 0.4


def test_drafts_after_the_first_refused_one_tell_nothing():
    confidence = Confidence(0.4)
    drafting(confidence, [0.9, 0.5, 0.99, 0.99, 0.99, 0.99])
    confidence.learn(1, 6)
    drafting(confidence, [0.9, 0.9, 0.9, 0.9])
    confidence.learn(4, 4)
    assert confidence.threshold == pytest.approx(0.9)


def test_each_prompt_begins_with_the_given_threshold():
    policy = Static(2, 5, 0.4)
    drafting(policy.confidence, [0.9] * 5 + [0.5])
    policy.learn(Step(2, 6, 5), None)
    assert policy.confidence.threshold == pytest.approx(0.9)
    policy.begin()
    assert policy.confidence.threshold == 0.4
