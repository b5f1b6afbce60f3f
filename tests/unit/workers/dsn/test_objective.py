"""The losses against hand-worked values and the official code's output."""

import math

import pytest
import torch

from workers.dsn.objective import (
    RefusalWeights,
    decay_weights,
    unlikelihood,
    unlikelihood_with_gradient,
    window_losses,
)


def near(values, tolerance=1e-5):
    return pytest.approx(values, abs=tolerance)


@pytest.mark.parametrize(("length", "weights"), [
    pytest.param(1, [1], id="one token"),
    pytest.param(2, [1, 0.5], id="two"),
    pytest.param(3, [1, 0.853553, 0.5], id="three"),
    pytest.param(5, [1, 0.96194, 0.853553, 0.691342, 0.5], id="five"),
    pytest.param(8, [1, 0.987464, 0.950484, 0.890916, 0.811745, 0.716942, 0.61126, 0.5], id="eight"),
])  # fmt: skip
def test_decay_falls_from_one_to_a_half_as_in_the_official_code(length, weights):
    assert decay_weights(length).tolist() == near(weights)


@pytest.mark.parametrize(("p", "u"), [
    (0.0, 0.0), (0.1, 0.105361), (0.5, 0.693147), (0.9, 2.302585), (0.99, 4.605170), (0.999, 4.605170), (1.0, 4.605170),
])  # fmt: skip
@pytest.mark.parametrize("form", [unlikelihood, unlikelihood_with_gradient])
def test_unlikelihood_is_clamped_at_p_099(p, u, form):
    assert float(form(torch.tensor(p).log())) == near(u)


def test_uniform_logits_give_the_hand_worked_losses():
    # V = 4: CE = ln 4 each; mean weight 2.353553 / 3; u = −ln .75 whatever the keywords, as ΣW = 1
    weights = RefusalWeights.build([[0, 1], [2]], 4)
    found = window_losses(torch.zeros(1, 4, 4), torch.tensor([0, 1, 2]), decay_weights(3), weights)
    assert float(found.target) == near(1.087572)
    assert float(found.refusal) == near(0.287682)
    assert float(found.total(10)) == near(3.964393)
    plain = window_losses(torch.zeros(1, 4, 4), torch.tensor([0, 1, 2]), torch.ones(3), None)
    assert float(plain.target) == near(math.log(4))
    assert float(plain.refusal) == 0


def test_weights_share_one_over_all_pairs_of_keyword_and_row():
    weights = RefusalWeights.build([[7, 8], [8]], 3)
    assert weights.pairs == 5
    assert weights.tokens.tolist() == [7, 8]
    assert weights.weights.tolist() == [near([0.1, 0.2]), near([0.1, 0.3]), near([0.0, 0.3])]


def test_hand_logits_of_two_tokens():
    logits = torch.tensor([[[0.8, 0.2], [0.5, 0.5]]]).log()
    found = window_losses(logits, torch.tensor([1]), decay_weights(1), RefusalWeights.build([[0]], 2))
    assert float(found.target) == near(1.609438)
    assert float(found.refusal) == near(1.151293)
    assert (float(found.total(1)), float(found.total(10))) == near((2.760731, 13.122364))


OFFICIAL = {
    "both": ([[1, 2], [4, 5, 6]], [0.1310, 0.1048, 0.1335, 0.0727]),
    "two tokens": ([[1, 2]], [0.1270, 0.0773, 0.1549, 0.0699]),
    "three tokens": ([[4, 5, 6]], [0.1363, 0.1414, 0.1049, 0.0763]),
}


def official_case():
    """The official code's case: (windows (4, 5, 11), target (4,))."""
    torch.manual_seed(0)
    logits = torch.randn(4, 9, 11)
    ids = torch.randint(0, 11, (4, 9))
    return logits[:, -5:], ids[0, -4:]


@pytest.mark.parametrize(("keywords", "refusal"), OFFICIAL.values(), ids=OFFICIAL)
def test_the_official_tensor_case(keywords, refusal):
    logits, target = official_case()
    found = window_losses(logits, target, decay_weights(4), RefusalWeights.build(keywords, 5))
    assert found.target.tolist() == near([2.3740, 1.9572, 2.0282, 2.6537], 6e-5)
    assert found.refusal.tolist() == near(refusal, 6e-5)


def looped(logits, keywords):
    """The refusal loss as its definition reads: a mean over pairs of keyword and start row."""
    p = logits.double().softmax(-1).clamp(max=0.99)
    found = []
    for row in p:
        pairs = []
        for keyword in keywords:
            for start in range(len(row) - len(keyword) + 1):
                u = [-math.log(1 - float(row[start + i, token])) for i, token in enumerate(keyword)]
                pairs.append(sum(u) / len(keyword))
        found.append(sum(pairs) / len(pairs))
    return found


@pytest.mark.parametrize("keywords", [[[1, 2], [3], [4, 5, 6, 1]], [[3], [3]], [[0, 0]]])
def test_the_vectorised_refusal_loss_is_the_loop_over_pairs(keywords):
    torch.manual_seed(1)
    logits = 4 * torch.randn(6, 7, 8)
    weights = RefusalWeights.build(keywords, 7)
    found = window_losses(logits, torch.tensor([0] * 6), torch.ones(6), weights).refusal
    assert found.tolist() == near(looped(logits, keywords), 5e-6)
    assert float(weights.weights.sum()) == near(1)


def test_a_single_token_keyword_keeps_the_value_of_each_candidate():
    """The official code drops the token axis, so that every candidate gets the batch's mean."""
    logits, target = official_case()
    found = window_losses(logits, target, decay_weights(4), RefusalWeights.build([[3]], 5)).refusal
    assert len(set(found.tolist())) == 4


def test_a_keyword_longer_than_the_window_has_no_pairs():
    weights = RefusalWeights.build([[1, 2, 3]], 2)
    assert weights.pairs == 0
    found = window_losses(torch.zeros(1, 2, 4), torch.tensor([1]), torch.ones(1), weights)
    assert float(found.refusal) == 0


def test_permuting_keywords_changes_nothing():
    logits, target = official_case()
    one, other = (RefusalWeights.build(k, 5) for k in ([[1, 2], [4, 5, 6], [3]], [[3], [4, 5, 6], [1, 2]]))
    first, second = (window_losses(logits, target, decay_weights(4), w).refusal for w in (one, other))
    torch.testing.assert_close(first, second)


def test_a_keyword_that_the_model_never_says_only_thins_the_mean():
    logits, target = official_case()
    logits[..., 9] = -1e4  # p = 0
    without, with_it = RefusalWeights.build([[1, 2]], 5), RefusalWeights.build([[1, 2], [9]], 5)
    first, second = (window_losses(logits, target, decay_weights(4), w).refusal for w in (without, with_it))
    torch.testing.assert_close(second, first * without.pairs / with_it.pairs)


def test_decay_written_inside_the_product_would_change_no_gradient():
    """−log Π w_j p_j = −Σ log p_j − Σ log w_j: the poster's form is a constant away from plain CE."""
    logits = torch.randn(5, 6, requires_grad=True)
    target = torch.arange(5)
    log_p = logits.log_softmax(-1).gather(-1, target[:, None]).squeeze(-1)
    (plain,) = torch.autograd.grad(-log_p.sum(), logits, retain_graph=True)
    (printed,) = torch.autograd.grad(-(log_p + decay_weights(5).log()).sum(), logits, retain_graph=True)
    (weighted,) = torch.autograd.grad(-(log_p * decay_weights(5)).sum(), logits)
    torch.testing.assert_close(plain, printed)
    assert not torch.allclose(plain, weighted)


def test_where_refusal_is_certain_only_the_straight_through_form_has_a_gradient():
    log_p = torch.tensor([0.999]).log().requires_grad_()
    (dead,) = torch.autograd.grad(unlikelihood(log_p).sum(), log_p)
    (alive,) = torch.autograd.grad(unlikelihood_with_gradient(log_p).sum(), log_p)
    assert float(dead) == 0
    assert float(alive) == pytest.approx(0.999 / 0.01, rel=1e-4)


def test_half_precision_logits_are_summed_in_float32():
    logits = torch.full((1, 3, 4), 0.0, dtype=torch.float16)
    logits[..., 0] = 30.0
    found = window_losses(logits, torch.tensor([0, 0]), torch.ones(2), RefusalWeights.build([[0]], 3))
    assert found.refusal.dtype == torch.float32
    assert float(found.refusal) == near(4.605170)
