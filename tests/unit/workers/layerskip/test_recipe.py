"""Dropout rates, exit weights and curricula equal the specification's tables; dropout drops whole blocks per sample."""

import pytest
import torch

from shared.jobs.catalog.layerskip import TrainParams
from workers.layerskip.early_exit_loss import (
    exit_weights,
    gradual,
    normalised,
    one_early_exit,
    rolled,
    rotational,
)
from workers.layerskip.layer_dropout import LayerDropout, layer_seed, states, through
from workers.layerskip.schedules import SCALES, depth_scale, dropout_rates, learning_rate_scale, step_scale

TEXT = "builtin:stdlib"


# O1 -------------------------------------------------------------------------------------------------------------------


def test_depth_scales_of_eight_layers_are_the_tables():
    found = [depth_scale(layer, 8) for layer in range(8)]
    expected = [0, 0.104089514, 0.219013654, 0.345900193, 0.485994289, 0.640670712, 0.811447329, 1]
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_mean_rate_of_eight_layers_at_a_fifth_is_the_tables():
    assert sum(dropout_rates(8, 1.0, 0.2)) / 8 == pytest.approx(0.0901779, abs=1e-7)


def test_the_mean_rate_of_thirty_two_layers_is_the_papers_figure():
    assert sum(dropout_rates(32, 1.0, 0.2)) / 32 == pytest.approx(0.08891, abs=1e-5)


@pytest.mark.parametrize(("step", "scale"), [(25, 0.189207115), (50, 0.414213562), (75, 0.681792831), (100, 1.0)])
def test_the_step_curriculum_is_the_tables(step, scale):
    assert step_scale(step, 101, "exp") == pytest.approx(scale, abs=1e-9)
    assert step_scale(step, 101, "none") == 1.0


def test_a_rate_in_the_middle_is_the_tables():
    assert dropout_rates(8, step_scale(50, 101, "exp"), 0.1)[4] == pytest.approx(0.0201305426, abs=1e-10)


def test_one_layer_has_depth_scale_one():
    assert depth_scale(0, 1) == 1.0


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_ends_at_one_or_near(scale):
    assert depth_scale(7, 8, scale) == pytest.approx(1.0, abs=0.01)
    assert depth_scale(0, 8, scale) == pytest.approx(1.0 if scale == "uniform" else 0.0, abs=0.01)


# O2 -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "e_scale", "enabled", "expected"),
    [
        pytest.param(4, 1.0, range(4), {1: 0.1, 2: 0.3, 3: 0.6}, id="L4"),
        pytest.param(8, 1.0, (1, 5, 7), {1: 0.022727273, 5: 0.340909091, 7: 0.636363636}, id="L8-157"),
        pytest.param(8, 1.0, (0, 4, 7), {4: 0.263157895, 7: 0.736842105}, id="L8-047"),
        pytest.param(8, 1.0, (3, 7), {3: 0.176470588, 7: 0.823529412}, id="L8-37"),
        pytest.param(8, 0.2, (1, 5, 7), {1: 0.013888889, 5: 0.208333333, 7: 0.777777778}, id="L8-scale-0.2"),
    ],
)
def test_normalised_weights_are_the_tables(layers, e_scale, enabled, expected):
    found = normalised(exit_weights(layers, e_scale), list(enabled))
    assert found == pytest.approx(expected, abs=1e-9)


def test_weights_before_normalising_are_the_tables():
    assert exit_weights(4, 1.0) == [0, 1, 3, 6]
    assert exit_weights(4, 0.2) == pytest.approx([0, 0.2, 0.6, 3.6])
    assert normalised(exit_weights(4, 0.2), range(4))[3] == pytest.approx(0.818181818, abs=1e-9)
    assert exit_weights(8, 1.0) == [0, 1, 3, 6, 10, 15, 21, 28]
    assert exit_weights(1, 1.0) == [1.0]


def test_no_weight_at_all_is_no_step():
    # Trap: e(0) = 0, so layer 0 alone would divide 0 by 0.
    assert normalised(exit_weights(8, 1.0), [0]) == {}


def test_other_weights_keep_the_last_layer_unscaled():
    assert exit_weights(4, 0.5, "uniform") == [0.5, 0.5, 0.5, 1.0]
    assert exit_weights(4, 0.5, "linear") == [0.5, 1.0, 1.5, 4.0]
    assert exit_weights(4, 1.0, "sqrt")[3] == 2.0
    assert exit_weights(4, 1.0, "inv")[1] == 0.5


def test_no_scale_trains_the_last_layer_alone():
    assert normalised(exit_weights(8, 0.0), range(8)) == {7: 1.0}


# O3 -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("R", "expected"),
    [
        (3, [[0, 3, 6, 7], [1, 4, 7], [2, 5, 7], [0, 3, 6, 7]]),
        (4, [[0, 4, 7], [1, 5, 7], [2, 6, 7], [3, 7]]),
    ],
)
def test_the_rotation_is_the_tables(R, expected):
    assert [rotational(8, step, R) for step in range(4)] == expected


def test_without_always_last_the_rotation_is_the_papers_formula():
    assert rotational(8, 1, 4, always_last=False) == [1, 5]


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, [7]), (3, [7]), (8, [6, 7]), (16, [4, 5, 6, 7]), (31, list(range(1, 8))), (32, list(range(8)))],
)
def test_the_gradual_curriculum_is_the_tables(step, expected):
    assert gradual(8, step, 64) == expected


def test_a_mask_rolls_onwards_by_one():
    mask = [True, False, False, False]
    assert [rolled(mask, step) for step in range(3)] == [[0, 3], [1, 3], [2, 3]]


def test_the_trl_preset_trains_one_early_exit_beside_the_last():
    assert [one_early_exit(4, step) for step in range(4)] == [
        {0: 0.5, 3: 0.5}, {1: 0.5, 3: 0.5}, {2: 0.5, 3: 0.5}, {0: 0.5, 3: 0.5},
    ]  # fmt: skip
    assert one_early_exit(1, 0) == {0: 1.0}


# Dropout --------------------------------------------------------------------------------------------------------------


def test_dropped_samples_pass_by_unchanged_and_kept_ones_are_not_rescaled(byte_model):
    model = byte_model()
    x = torch.randn(4, 6, 32)
    cos, sin = model.angles(6)
    block = model.blocks[0]
    after = through(block, x, torch.tensor([1, 3]), cos, sin)
    assert torch.equal(after[[0, 2]], x[[0, 2]])
    torch.testing.assert_close(after[[1, 3]], block(x[[1, 3]], cos, sin))


def test_one_kept_sample_and_none_are_no_special_case(byte_model):
    # Trap: squeezing one kept sample to a 0-d index; calling a block with an empty batch.
    model = byte_model()
    x, (cos, sin) = torch.randn(3, 6, 32), model.angles(6)
    one = through(model.blocks[0], x, torch.tensor([2]), cos, sin)
    torch.testing.assert_close(one[2:], model.blocks[0](x[2:], cos, sin))
    assert through(model.blocks[0], x, torch.tensor([], dtype=torch.int64), cos, sin) is x


def test_keeping_all_is_the_model_without_dropout(byte_model):
    model, ids = byte_model(), torch.randint(0, 256, (2, 7))
    everything = [torch.arange(2)] * 3
    for ours, plain in zip(states(model, ids, everything), model.states(ids), strict=True):
        torch.testing.assert_close(ours, plain)


def test_every_layer_draws_for_every_sample_by_its_own_generator():
    first, again = LayerDropout(4, 7), LayerDropout(4, 7)
    rates = [0.0, 0.5, 0.5, 0.9]
    kept = [first.kept(rates, 1000) for _ in range(2)]
    assert [len(samples) for samples in kept[0]] == pytest.approx([1000, 500, 500, 100], abs=60)
    assert not torch.equal(kept[0][1], kept[0][2])  # no one mask for all layers
    again.kept(rates, 1000)
    saved = again.state()
    expected = again.kept(rates, 1000)
    other = LayerDropout(4, 8)
    other.restore(saved)
    assert all(torch.equal(a, b) for a, b in zip(other.kept(rates, 1000), expected, strict=True))
    assert layer_seed(7, 0) != layer_seed(7, 1) != layer_seed(8, 1)


def test_recomputing_blocks_replays_the_same_dropout(byte_model):
    ids, kept = torch.randint(0, 256, (4, 9)), [torch.tensor([0, 2]), torch.tensor([1]), torch.arange(4)]

    def gradients(recompute):
        model = byte_model()
        *_, last = states(model, ids, kept, recompute)
        model.head(last).sum().backward()
        return [weight.grad for weight in model.parameters()]

    for plain, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(plain, again)


# Presets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "p_max", "e_scale", "R", "lr"),
    [
        ("short", 0.1, 1.0, 8, 3e-3),
        ("llama2-7b", 0.1, 0.2, 8, 3e-5),
        ("llama2-13b", 0.1, 0.1, 39, 2e-5),
        ("llama3-8b", 0.1, 0.1, 8, 3e-5),
        ("llama3.2-1b", 0.1, 0.1, 8, 3e-5),
        ("scratch-1.5b", 0.1, 0.2, 23, 8e-4),
        ("scratch-7b", 0.2, 0.2, 31, 8e-4),
        ("code-llama1-7b", 0.1, 1.0, 16, 1e-4),
        ("topv2-1.5b", 0.2, 1.0, 8, 1e-4),
    ],
)
def test_presets_are_the_published_recipes(preset, p_max, e_scale, R, lr):
    recipe = TrainParams(text=TEXT, preset=preset).recipe()
    assert (recipe.p_max, recipe.e_scale, recipe.R, recipe.lr) == (p_max, e_scale, R, lr)


def test_topv2_joins_exits_gradually_and_trl_drops_no_layers():
    topv2, trl = (TrainParams(text=TEXT, preset=preset).recipe() for preset in ("topv2-1.5b", "trl"))
    assert (topv2.curriculum, topv2.dropout_curriculum) == ("gradual", "none")
    assert (trl.p_max, trl.one_exit) == (0.0, True)


def test_from_scratch_dropout_grows_and_exits_weigh_little_continued_they_do_not():
    scratch = TrainParams(text=TEXT, lr=1e-3).recipe()
    continued = TrainParams(text=TEXT, lr=1e-3, model="hub:a/b").recipe()
    assert (scratch.e_scale, scratch.dropout_curriculum) == (0.2, "exp")
    assert (continued.e_scale, continued.dropout_curriculum) == (1.0, "none")


def test_what_is_given_overrides_the_preset():
    recipe = TrainParams(text=TEXT, preset="trl", p_max=0.3, lr=1e-4).recipe()
    assert (recipe.p_max, recipe.lr, recipe.one_exit) == (0.3, 1e-4, True)


def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    scales = [learning_rate_scale(step, 400, 50, 0.1) for step in range(400)]
    assert scales[0] == pytest.approx(1 / 50)
    assert scales[49] == scales[50] == pytest.approx(1.0)
    assert scales[-1] == pytest.approx(0.1)
