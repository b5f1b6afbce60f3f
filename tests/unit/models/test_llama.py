"""Our Llama against transformers': logits, files in both directions, every kind of head, refusals."""

import itertools
import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.models.llama import Llama, LlamaConfig, initialise
from shared.models.llama_checkpoint import load_llama, read_config, save_llama
from shared.models.llama_decoder import LlamaDecoder
from shared.models.rotary import inverse_frequencies, side_by_side
from shared.models.skinny_gemm import compiled

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import LlamaConfig as TheirConfig
    from transformers import LlamaForCausalLM

ROPES = {
    "default": None,
    "linear": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 32, "rope_theta": 10_000.0},
}  # fmt: skip


def theirs(folder, *, tied=False, kv_heads=2, rope=None, eos=7, dtype=torch.float32):
    torch.manual_seed(0)
    rope_said = {"rope_parameters": rope} if rope else {}
    config = TheirConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=kv_heads, tie_word_embeddings=tied, initializer_range=0.3, eos_token_id=eos, **rope_said,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(dtype).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(("tied", "kv_heads", "rope"), list(itertools.product([False, True], [4, 2, 1], ROPES)))
def test_logits_are_transformers_and_files_go_both_ways(tmp_path, tied, kv_heads, rope):
    model = theirs(tmp_path, tied=tied, kv_heads=kv_heads, rope=ROPES[rope])
    ids = torch.randint(0, 50, (2, 90))
    ours = load_llama(tmp_path)
    with torch.inference_mode():
        found, expected = ours(ids), model(ids).logits
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        for name, data in save_llama(ours).items():
            (tmp_path / name).write_bytes(data)
        again = LlamaForCausalLM.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(again(ids).logits, expected, atol=1e-5, rtol=0)


def test_exits_are_transformers_hidden_states_with_the_final_norm(tmp_path):
    # Trap: their hidden_states[0] is the embedding, and the last one is already normed.
    model, ids = theirs(tmp_path), torch.randint(0, 50, (1, 9))
    ours = load_llama(tmp_path)
    with torch.inference_mode():
        hidden = model(ids, output_hidden_states=True).hidden_states
        for exit_layer, x in enumerate(ours.states(ids), start=1):
            normed = hidden[exit_layer] if exit_layer == 3 else model.model.norm(hidden[exit_layer])
            torch.testing.assert_close(ours.head(x), model.lm_head(normed), atol=1e-5, rtol=0)
            torch.testing.assert_close(ours(ids, exit_layer), ours.head(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_checkpoints_are_saved_without_a_loss(tmp_path, dtype):
    theirs(tmp_path, dtype=dtype)
    before = load_file(tmp_path / "model.safetensors")
    wide = load_llama(tmp_path, torch.float32)
    for name, data in save_llama(wide.to(dtype)).items():
        (tmp_path / name).write_bytes(data)
    after = load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and after[name].dtype == dtype for name in before)


def test_shards_are_read_as_one(tmp_path):
    model = theirs(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    names = sorted(weights)
    save_file({name: weights[name] for name in names[:5]}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({name: weights[name] for name in names[5:]}, tmp_path / "model-00002-of-00002.safetensors")
    (tmp_path / "model.safetensors").unlink()
    ids = torch.randint(0, 50, (1, 5))
    with torch.inference_mode():
        torch.testing.assert_close(load_llama(tmp_path)(ids), model(ids).logits, atol=1e-5, rtol=0)


def test_several_end_tokens_are_kept(tmp_path):
    theirs(tmp_path, eos=[3, 7])
    assert read_config(tmp_path).eos_ids == (3, 7)
    files = save_llama(load_llama(tmp_path))
    assert json.loads(files["config.json"])["eos_token_id"] == [3, 7]


def test_older_configs_name_rope_elsewhere(tmp_path):
    theirs(tmp_path, rope=ROPES["llama3"])
    new = read_config(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    rope = config.pop("rope_parameters")
    theta = rope.pop("rope_theta")
    (tmp_path / "config.json").write_text(json.dumps(config | {"rope_theta": theta, "rope_scaling": rope}))
    torch.testing.assert_close(read_config(tmp_path).inverse_frequencies(), new.inverse_frequencies())


# Refusals -------------------------------------------------------------------------------------------------------------


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"model_type": "mistral"}, "only llama checkpoints", id="other-model"),
        pytest.param({"attention_bias": True}, "attention_bias is set", id="bias"),
        pytest.param({"hidden_act": "gelu"}, "hidden_act is 'gelu'", id="activation"),
        pytest.param({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "'yarn' is not known", id="yarn"),
        pytest.param({"tie_word_embeddings": True}, "lm_head.weight differs", id="claims-tied-holds-untied"),
        pytest.param({"intermediate_size": 60}, "config.json makes it", id="shape"),
        pytest.param({"num_hidden_layers": 4}, "weights are missing", id="missing-layer"),
        pytest.param({"num_hidden_layers": 2}, "no Llama block has", id="layer-too-many"),
    ],
)
def test_a_checkpoint_that_is_not_what_it_says_is_refused(tmp_path, changes, said):
    theirs(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(ValueError, match=said):
        load_llama(tmp_path)


def test_a_checkpoint_that_claims_an_untied_head_and_has_none_is_refused(tmp_path):
    theirs(tmp_path, tied=True)
    edit(tmp_path, tie_word_embeddings=False)
    with pytest.raises(ValueError, match="is missing; set it to true"):
        load_llama(tmp_path)


def test_damaged_and_missing_weights_are_refused(tmp_path):
    theirs(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="can't be read"):
        load_llama(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="pickled weights are not loaded"):
        load_llama(tmp_path)


# The decoder ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("products", "width"), [("skinny", 16), ("skinny", 6), ("plain", 8)])
def test_decoding_in_pieces_gives_the_models_logits(kernel, kv_heads, tied, products, width):
    """Heads of width 16 attend in our kernel, others by torch."""
    if products == "skinny" and kernel is None:
        pytest.skip("no C++ compiler")
    model = Llama(LlamaConfig(50, 32, 64, 3, 4, kv_heads, width, tied=tied, rope_scaling=ROPES["llama3"]))
    initialise(model, 0, scale=0.2)
    decoder, ids = LlamaDecoder(model, kernel if products == "skinny" else None), torch.randint(0, 50, (2, 60))
    single, batch = decoder.cache(60), decoder.cache(60, 2)
    alone, together, at = [], [], 0
    with torch.inference_mode():
        expected = model(ids)
        for n in (37, 1, 1, 5, 7, 9):
            piece = ids[:, at : at + n]
            alone.append(decoder.head(decoder.run(decoder.embed(piece[0]), single, 0, 3, at)))
            together.append(decoder.head(decoder.run_batch(decoder.embed(piece), batch, 0, 3, [at, at])))
            at += n
    torch.testing.assert_close(torch.cat(alone), expected[0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat(together, dim=1), expected, atol=2e-5, rtol=1e-4)


def test_gate_rows_come_first_then_up():
    # Trap: a fused product whose halves are exchanged says fluent nonsense, and no error.
    model = Llama(LlamaConfig(50, 32, 3, 1, 2, 2, 16))
    initialise(model, 0, scale=0.2)
    mlp = model.blocks[0].mlp
    x = torch.randn(4, 32)
    normed = torch.nn.functional.rms_norm(x, (32,), None, model.config.rms_eps)
    gate, up = LlamaDecoder(model).layers[0].gate_up.of_normed(x, model.config.rms_eps).split(3, dim=-1)
    torch.testing.assert_close(gate, mlp.gate_proj(normed))
    torch.testing.assert_close(up, mlp.up_proj(normed))
    exchanged = torch.nn.functional.silu(up) * gate
    assert not torch.allclose(exchanged, torch.nn.functional.silu(gate) * up, atol=1e-3)


def test_neighbours_turned_as_complex_numbers_are_halves_turned():
    rows = torch.arange(8.0)[:, None]
    assert side_by_side(rows, 8).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_frequencies_without_scaling_are_the_formula():
    expected = [10_000 ** (-2 * i / 8) for i in range(4)]
    assert inverse_frequencies(8, 10_000).tolist() == pytest.approx(expected)


# Training builds on it ------------------------------------------------------------------------------------------------


def test_first_weights_depend_on_the_seed_alone_and_residual_ones_are_smaller():
    config = LlamaConfig(64, 64, 128, 4, 4, 4, 16)
    one, same, other = (Llama(config) for _ in range(3))
    initialise(one, 1)
    initialise(same, 1)
    initialise(other, 2)
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    block = one.blocks[0]
    assert float(block.mlp.up_proj.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(block.mlp.down_proj.weight.detach().std()) == pytest.approx(0.02 / 8**0.5, rel=0.05)
    assert torch.equal(block.input_layernorm.weight, torch.ones(64))


@pytest.mark.filterwarnings("ignore")  # what torch.compile loads warns
def test_a_compiled_batch_gives_the_same_and_pads_to_one_number_of_rows():
    import shutil

    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    model = Llama(LlamaConfig(50, 32, 64, 2, 4, 2, 8))
    initialise(model, 0, scale=0.2)
    plain, fast = LlamaDecoder(model), LlamaDecoder(model)
    fast.compile(4)
    ids, caches = torch.randint(0, 50, (1, 20)), [decoder.cache(40, 1) for decoder in (plain, fast)]
    at = 0
    with torch.inference_mode():
        for n in (9, 1, 4, 2, 1, 3):  # nine rows are too many to be compiled
            piece = ids[:, at : at + n]
            found = [
                decoder.run_batch(decoder.embed(piece), cache, 0, 2, [at])
                for decoder, cache in zip((plain, fast), caches, strict=True)
            ]
            torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
            at += n
