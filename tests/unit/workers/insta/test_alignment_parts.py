"""Pairs, losses, recipes and heads, by hand."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from workers.insta.aligned import Head  # noqa: E402
from workers.insta.index import through_head  # noqa: E402
from workers.insta.losses import category_loss, category_losses, cosine_loss, distance_to_identity  # noqa: E402
from workers.insta.pairs import NegativeRule, dev_pairs, steps_per_epoch, training_pairs, warm_up_steps  # noqa: E402
from workers.insta.recipes import CategoryRecipe, CategorySettings, PairRecipe  # noqa: E402

RULE = NegativeRule()


def spread_out(rows, d=32, seed=0):
    """Unit vectors that are nearly orthogonal."""
    x = np.random.default_rng(seed).normal(size=(rows, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_pair_counts_of_data_sets_with_5_3_and_1_instructions():
    groups = [0] * 5 + [1] * 3 + [2]
    pairs = training_pairs(groups, spread_out(9), np.random.default_rng(0), 0.4, RULE)
    assert (int(pairs.labels.sum()), int((pairs.labels == 0).sum())) == (4 + 1 + 0, 9)  # floor(.4·10), floor(.4·3), 0
    assert (steps_per_epoch(14, 16), warm_up_steps(1)) == (1, 0)
    for u, v, label in zip(pairs.u, pairs.v, pairs.labels, strict=True):
        assert (groups[u] == groups[v]) == bool(label)


@pytest.mark.parametrize(
    ("examples", "steps"), [pytest.param(2768, 173, id="most-of-173"), pytest.param(2753, 173, id="least-of-173"),
                            pytest.param(2752, 172, id="one-less")]
)  # fmt: skip
def test_checkpoints_of_the_published_script(examples, steps):
    assert steps_per_epoch(examples, 16) == steps
    if steps == 173:
        assert warm_up_steps(steps) == 17
        assert [steps * epoch for epoch in range(1, 6)] == [173, 346, 519, 692, 865]


def test_a_negative_is_far_and_used_at_most_four_times():
    x = spread_out(60)
    pairs = training_pairs([row // 3 for row in range(60)], x, np.random.default_rng(1), 0.4, RULE)
    negative = pairs.labels == 0
    assert pairs.forced == 0
    assert (x[pairs.u[negative]] * x[pairs.v[negative]]).sum(axis=1).max() < 0.3
    assert np.bincount(pairs.v[negative]).max() <= 4


def test_pairs_are_the_same_for_the_same_seed():
    first, again = (training_pairs([0, 0, 1, 1, 2], spread_out(5), np.random.default_rng(7), 1, RULE) for _ in "ab")
    assert first.v.tolist() == again.v.tolist()


def test_dev_pairs_are_all_within_and_one_across_for_each():
    pairs = dev_pairs([0, 0, 0, 1, 1], np.random.default_rng(0))
    assert (int(pairs.labels.sum()), len(pairs.labels)) == (3 + 1, 4 + 5)


def test_the_official_loss_by_hand():
    u, v = torch.tensor([[1.0, 0], [1, 0]]), torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    one, other = cosine_loss(u[:1], v[:1], torch.tensor([1.0])), cosine_loss(u[1:], v[1:], torch.tensor([0.0]))
    assert (one.item(), other.item()) == pytest.approx((0.16, 0.64))
    assert cosine_loss(u, v, torch.tensor([1.0, 0])).item() == pytest.approx(0.40)


@pytest.mark.parametrize(
    ("labels", "rows", "mean"),
    [
        pytest.param([0, 1], [0.183901, 0.371101], 0.277501, id="two-categories"),
        pytest.param([0, 0], [0.983901, 0.771101], 0.877501, id="one-category"),
    ],
)
def test_the_category_loss_by_hand(labels, rows, mean):
    a, b = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[0.8, 0.6], [0, 1]])
    found = category_losses(a, b, torch.tensor(labels), 0.5)
    assert found.tolist() == pytest.approx(rows, abs=1e-6)
    assert category_loss(a, b, torch.tensor(labels), 0.5).item() == pytest.approx(mean, abs=1e-6)


def test_the_identity_head_returns_the_vectors():
    x = spread_out(20).astype(np.float16)
    through = through_head(x, np.eye(32, dtype=np.float32))
    wide = x.astype(np.float32)
    assert np.array_equal(through, wide / np.linalg.norm(wide, axis=1, keepdims=True))
    head = Head(x, 0.01)
    assert np.array_equal(head.matrix, np.eye(32))
    assert head.penalty().item() == distance_to_identity(torch.eye(4)).item() == 0


def test_a_head_multiplies_from_the_right_as_the_index_does():
    x = spread_out(8)
    head = Head(x, 0.0)
    with torch.no_grad():
        head.module.weight.copy_(torch.from_numpy(np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)))
    assert through_head(x, head.matrix) == pytest.approx(head.vectors(), abs=1e-5)


def test_a_category_batch_holds_two_different_tasks_of_each_draw():
    rows = [np.array([i * 2, i * 2 + 1]) for i in range(9)]  # tasks of two rows
    recipe = CategoryRecipe.of(rows, [0, 0, 0, 1, 1, 2, -1, 1, 1], CategorySettings(5, 64, 0.07, 42))
    assert len(recipe.tasks) == 2  # a category of one task, and no category, teach nothing
    batch = recipe.batch(3)
    category_of = {row: code for code, tasks in enumerate(recipe.tasks) for task in tasks for row in task}
    for u, v, label in zip(batch.u, batch.v, batch.labels, strict=True):
        assert category_of[u] == category_of[v] == label
        assert u // 2 != v // 2
    assert recipe.batch(3).u.tolist() == batch.u.tolist() != recipe.batch(4).u.tolist()


def test_a_categorys_chance_goes_with_the_root_of_its_size():
    rows = [np.array([i]) for i in range(20)]
    recipe = CategoryRecipe.of(rows, [0] * 16 + [1] * 4, CategorySettings(1, 30_000, 0.07, 0))
    assert recipe.batch(0).labels.mean() == pytest.approx(2 / (4 + 2), abs=0.01)


def test_an_epoch_of_pairs_shows_each_once_and_the_rate_warms_up_and_decays():
    pairs = training_pairs([row // 4 for row in range(400)], spread_out(400), np.random.default_rng(0), 1.0, RULE)
    recipe = PairRecipe(pairs, 2, 16, 42)
    assert recipe.per_epoch == 63
    shown = np.concatenate([recipe.batch(step).u for step in range(63)])
    assert sorted(shown) == sorted(pairs.u)
    rates = [recipe.scale(step) for step in range(recipe.steps)]
    assert rates[0] == 0
    assert rates[6] == max(rates) == 1
    assert 0 < rates[-1] < 0.01
    steeper = PairRecipe(pairs, 2, 16, 42, warm_up=0.5)
    assert steeper.scale(30) < 1 == steeper.scale(31)


@pytest.mark.parametrize(("per_epoch", "share", "steps"), [(173, 0.1, 17), (30, 0.1, 3), (10, 0.7, 7), (9, 0, 0)])
def test_the_share_of_an_epoch_that_warms_up_is_rounded_down(per_epoch, share, steps):
    assert warm_up_steps(per_epoch, share) == steps
