"""The parts of a training, each by itself: recipes by step, optimiser, losses, sums over exits, kept models."""

import math

import pytest
import torch
import torch.nn.functional as F

from shared.jobs.catalog.layerskip import TrainParams
from shared.jobs.catalog.layerskip.presets import PRESETS
from shared.models.llama import Llama, LlamaConfig, initialise
from workers.layerskip.corpus import IGNORED, Batch, Stream
from workers.layerskip.early_exit_loss import exit_weights, gradual, normalised, rolled, rotational
from workers.layerskip.evaluation import ExitSums, look, perplexity
from workers.layerskip.kept import recipe_digest
from workers.layerskip.schedules import SCALES, depth_scale, dropout_rates, step_scale
from workers.layerskip.sources import Sources
from workers.layerskip.tokenising import Bytes
from workers.layerskip.training import Training, cross_entropy, shape_of

FILE = "file:" + "b" * 64
SHAPE = {"layers": 4, "d_model": 16, "heads": 2, "block_size": 8}


@pytest.fixture
def training(context, tmp_path):
    """A training that has read its text and not begun."""

    def make(**params):
        given = TrainParams(**{"text": FILE, "preset": "short", "steps": 101, **SHAPE, **params})
        text = Stream(Bytes().encode("to be or not to be " * 20), "text")
        return Training(given, Sources(None, Bytes(), text, text.spread(2, 16), []), context(tmp_path))

    return make


# Recipes by step ------------------------------------------------------------------------------------------------------


def test_dropout_grows_from_nothing_to_p_max_at_the_last_layer_and_step(training):
    found = training(p_max=0.2)
    assert found.rates(0) == [0, 0, 0, 0]
    assert found.rates(100)[0] == 0
    assert found.rates(100)[-1] == pytest.approx(0.2)
    assert found.rates(50)[-1] == pytest.approx(0.2 * 0.414213562)


def test_without_curriculum_dropout_is_whole_from_the_first_step(training):
    found = training(p_max=0.2, dropout_curriculum="none")
    assert found.rates(0) == found.rates(100)
    assert found.rates(0)[-1] == pytest.approx(0.2)


@pytest.mark.parametrize("scale", SCALES)
def test_no_scale_falls_with_depth(scale):
    rates = dropout_rates(12, 1.0, 0.3, scale)
    assert rates == sorted(rates)
    assert all(0 <= rate <= 0.3 + 1e-12 for rate in rates)


def test_the_exponential_scale_stays_below_the_straight_line():
    assert all(depth_scale(layer, 9) < depth_scale(layer, 9, "linear") for layer in range(1, 8))
    assert step_scale(0, 1, "exp") == 1.0  # a run of one step


@pytest.mark.parametrize(
    ("params", "by_step"),
    [
        pytest.param({"preset": "trl"}, [{0, 3}, {1, 3}, {2, 3}, {0, 3}], id="trl"),
        pytest.param({"R": 2}, [{2, 3}, {1, 3}, {2, 3}, {1, 3}], id="every-second"),  # layer 0 is on and weighs nothing
        pytest.param({"curriculum": "none"}, [{1, 2, 3}] * 4, id="all"),
        pytest.param({"p_max": 0.0, "e_scale": 0.0}, [{3}] * 4, id="without-the-recipe"),
        pytest.param({"rotation_mask": [False, True, False, False]}, [{1, 3}, {2, 3}, {3}, {3}], id="a-mask"),
        pytest.param({"curriculum": "gradual", "steps": 8}, [{3}, {3}, {2, 3}, {1, 2, 3}], id="gradual"),
    ],
)  # fmt: skip
def test_the_exits_of_the_first_steps_are_the_recipes(training, params, by_step):
    found = training(**params)
    assert [set(found.exits(step)) for step in range(4)] == by_step
    assert all(sum(found.exits(step).values()) == pytest.approx(1) for step in range(4))


def test_rotation_is_no_longer_than_the_layers(training):
    found = training(R=100)
    assert [set(found.exits(step)) for step in range(5)] == [{3}, {1, 3}, {2, 3}, {3}, {3}]


def test_a_preset_says_every_choice_and_all_are_within_the_papers(training):
    for name, preset in PRESETS.items():
        for from_scratch in (True, False):
            recipe = preset(from_scratch)
            assert 0 <= recipe.p_max <= 0.2, name
            assert recipe.e_scale in (0.1, 0.2, 1.0), name
            assert (recipe.lr is None) == (name == "none"), name


# Weights and curricula ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [2, 3, 8, 32])
@pytest.mark.parametrize("e_scale", [0.1, 0.2, 1.0])
def test_weights_are_the_sums_of_the_papers_formula(layers, e_scale):
    early = [e_scale * sum(range(layer + 1)) for layer in range(layers - 1)]
    last = (layers - 1) + e_scale * sum(range(layers - 1))
    assert exit_weights(layers, e_scale) == pytest.approx([*early, last])


def test_the_last_layer_has_three_of_l_plus_one_of_the_weight_with_all_on():
    for layers in (8, 32):
        assert normalised(exit_weights(layers, 1.0), range(layers))[layers - 1] == pytest.approx(3 / (layers + 1))


@pytest.mark.parametrize("R", [1, 2, 3, 8])
def test_every_layer_comes_once_in_a_turn_of_the_rotation(R):
    seen = [layer for step in range(R) for layer in rotational(8, step, R, always_last=False)]
    assert sorted(seen) == list(range(8))
    assert all(len(rotational(8, step, R, False)) <= math.ceil(8 / R) for step in range(R))


@pytest.mark.parametrize(("layers", "steps"), [(8, 64), (5, 1000), (32, 32)])
def test_gradually_all_layers_are_on_from_the_middle(layers, steps):
    counts = [len(gradual(layers, step, steps)) for step in range(steps)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert set(counts[steps // 2 :]) == {layers}


def test_a_mask_comes_round_after_as_many_steps_as_layers():
    mask = [True, False, True, False, False]
    assert [rolled(mask, step, False) for step in range(5)] == [[0, 2], [1, 3], [2, 4], [0, 3], [1, 4]]
    assert rolled(mask, 5) == rolled(mask, 0)


# Optimiser, losses ----------------------------------------------------------------------------------------------------


def test_weights_of_norms_do_not_decay(training):
    found = training(weight_decay=0.3)
    found.model = Llama(found.config)
    matrices, others = found._optimiser().param_groups
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert all(weight.dim() == 2 for weight in matrices["params"])
    assert len(others["params"]) == 2 * 4 + 1
    assert matrices["lr"] == 3e-3


def test_a_batch_is_the_same_whenever_its_step_is_asked_for(training):
    one, other = training(), training()
    other._batch(3)
    assert torch.equal(one._batch(7).ids, other._batch(7).ids)
    assert not torch.equal(one._batch(8).ids, other._batch(9).ids)


def test_cross_entropy_leaves_ignored_targets_out_and_is_computed_in_float32():
    logits, targets = torch.randn(2, 3, 5).bfloat16(), torch.tensor([[1, IGNORED, 2], [IGNORED, IGNORED, 4]])
    kept = targets.flatten() != IGNORED
    expected = F.cross_entropy(logits.float().flatten(0, 1)[kept], targets.flatten()[kept])
    found = cross_entropy(logits, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        pytest.param({}, (128, 344, 8, 4, 4, 32, False), id="the-specifications-small-model"),
        pytest.param({"d_model": 64, "heads": 2, "kv_heads": 1, "tied": True}, (64, 176, 8, 2, 1, 32, True), id="gqa"),
        pytest.param({"ffn": 100, "layers": 3}, (128, 100, 3, 4, 4, 32, False), id="own-width"),
    ],
)
def test_a_model_from_scratch_has_the_shape_that_is_asked_for(given, found):
    config = shape_of(TrainParams(text=FILE, preset="short", **given), 256)
    assert found == (
        config.hidden_size, config.intermediate_size, config.layers, config.heads, config.kv_heads, config.head_dim,
        config.tied,
    )  # fmt: skip


def test_the_specifications_small_model_has_its_weights():
    model = Llama(shape_of(TrainParams(text=FILE, preset="short"), 256))
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(1.65e6, rel=0.01)


# Sums over exits ------------------------------------------------------------------------------------------------------


@pytest.fixture
def model():
    found = Llama(LlamaConfig(32, 16, 32, 3, 2, 2, 8))
    initialise(found, 0, scale=0.4)
    return found.eval()


def batch(*rows):
    ids = torch.tensor(rows)
    return Batch(ids[:, :-1], ids[:, 1:].clone())


def test_exits_are_scored_by_loss_agreement_and_overlap(model):
    own = batch([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    figures = look(model, [own]).figures()
    logp = [torch.log_softmax(model.head(x), -1).detach() for x in model.states(own.ids)]
    for exit_layer, each in enumerate(figures, start=1):
        here, last = logp[exit_layer - 1], logp[-1]
        assert each.loss == pytest.approx(float(F.nll_loss(here.flatten(0, 1), own.targets.flatten())), rel=1e-5)
        assert each.agreement == pytest.approx(float((here.argmax(-1) == last.argmax(-1)).double().mean()))
        assert each.overlap == pytest.approx(float(torch.minimum(here, last).exp().sum(-1).mean()), rel=1e-5)


def test_batches_are_summed_and_not_averaged_twice(model):
    whole = look(model, [batch([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])])
    parts = look(model, [batch([1, 2, 3, 4, 5]), batch([6, 7, 8, 9, 10])])
    assert whole.tokens == parts.tokens == 8
    assert [each.loss for each in whole.figures()] == pytest.approx([each.loss for each in parts.figures()])


def test_positions_without_target_are_not_scored(model):
    own = batch([1, 2, 3, 4, 5])
    own.targets[0, :3] = IGNORED
    assert look(model, [own]).tokens == 1


def test_a_look_leaves_the_model_training(model):
    model.train()
    look(model, [batch([1, 2, 3])])
    assert model.training


def test_sums_go_through_a_checkpoint_as_plain_numbers(model):
    sums = look(model, [batch([1, 2, 3])])
    again = ExitSums.of(
        3, {name: list(value) if isinstance(value, list) else value for name, value in vars(sums).items()}
    )
    with torch.inference_mode():
        again.add(model, batch([4, 5, 6]))
    assert again.figures() == look(model, [batch([1, 2, 3]), batch([4, 5, 6])]).figures()


@pytest.mark.parametrize(("loss", "tokens", "found"), [(0.0, 5, 1.0), (5 * math.log(7), 5, 7.0), (5e3, 5, None)])
def test_perplexity_is_the_exponential_of_the_mean_loss(loss, tokens, found):
    assert perplexity(loss, tokens) == (None if found is None else pytest.approx(found))


# Kept models ----------------------------------------------------------------------------------------------------------


def test_a_recipe_is_another_with_any_choice_text_or_seed(context, tmp_path):
    (tmp_path / "a.txt").write_text("a" * 200)
    (tmp_path / "b.txt").write_text("b" * 200)

    def digest(folder, text="a.txt", **params):
        ctx = context(tmp_path / folder, {FILE: tmp_path / text})
        return recipe_digest(TrainParams(**{"text": FILE, "preset": "short", "keep_as": "x", **params}), ctx)

    found = [digest("1"), digest("2", seed=1), digest("3", p_max=0.2), digest("4", text="b.txt"), digest("5", steps=9)]
    assert len(set(found)) == 5
    assert digest("6") == found[0]
