"""Training: it learns, exits become usable, killed anywhere gives the same bytes, models are kept, refusals."""

import json
import math
import tarfile

import pytest
import torch

from shared.jobs.catalog.layerskip import EvalExitsParams, TrainParams
from shared.jobs.errors import Cancelled, InvalidInput
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.models.llama_checkpoint import load_llama
from tests.tiny_model import edit_config, pack
from workers.layerskip.evaluation import perplexity
from workers.layerskip.jobs import eval_exits, train
from workers.layerskip.tokenising import Bytes, Pretrained, Streamed, read_tokens

MODEL, FILE, OTHER = (f"file:{letter * 64}" for letter in "abc")
SMALL = {
    "text": FILE, "preset": "short", "steps": 120, "batch_size": 4, "block_size": 32, "layers": 3, "d_model": 32,
    "heads": 2, "warmup_steps": 5, "eval_windows": 8, "eval_block_size": 48,
}  # fmt: skip
TEXT = "".join(f"def f{n}(x):\n    return x + {n}\n\n\n" for n in range(300))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def run(context, text):
    def make(folder, inputs=None, **params):
        ctx = context(folder, {FILE: text, **(inputs or {})})
        result = train(TrainParams(**{**SMALL, **params}), ctx)
        ctx.close()
        return result

    return make


@pytest.fixture(scope="module")
def whole(tmp_path_factory, text, cache):
    folder = tmp_path_factory.mktemp("whole")
    ctx = LocalContext(folder, {FILE: text}, cache=cache)
    result = train(TrainParams(**SMALL, eval_every=60), ctx)
    ctx.close()
    return result, folder


def unpacked(tar, folder):
    with tarfile.open(tar) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_it_learns_and_every_exit_is_measured(whole):
    result, folder = whole
    assert result.loss_last < 0.6 * result.loss_first
    assert result.loss_first == pytest.approx(math.log(256), abs=0.1)
    assert [each.exit_layer for each in result.exits] == [1, 2, 3]
    assert result.exits[-1].loss < 2.5
    assert result.exits[-1].agreement == 1.0
    assert result.exits[-1].overlap == pytest.approx(1.0)
    assert result.exits[-1].perplexity == pytest.approx(math.exp(result.exits[-1].loss))
    assert (folder / "exits.csv").read_text().splitlines()[0] == "exit_layer,loss,perplexity,agreement,overlap"


def test_its_artifacts_are_a_model_tables_and_figures(whole):
    _, folder = whole
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert names == {
        "model.tar", "exits.csv", "results.json", "curves.jsonl", "timings.jsonl", "perplexity.plotly.json",
        "agreement.plotly.json", "schedule.plotly.json", "held-out.plotly.json",
    }  # fmt: skip
    curves = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    assert {"loss", "loss_exit_3", "loss_exit_2", "held_out_loss_exit_1"} <= {point["name"] for point in curves}


class Stop(LocalContext):
    """Cancels itself at one step."""

    stop_at = 0

    def progress(self, done, total, unit, message=""):
        if done == self.stop_at:
            self.cancelled = True
        super().progress(done, total, unit, message)


@pytest.mark.parametrize("stop_at", [3, 50, 77, 119])
def test_killed_anywhere_it_gives_the_same_bytes(whole, tmp_path, text, cache, contents, stop_at):
    params = TrainParams(**SMALL, eval_every=60)
    ctx = Stop(tmp_path, {FILE: text}, cache=cache)
    ctx.stop_at = stop_at
    with pytest.raises(Cancelled):
        train(params, ctx)
    ctx.release()
    again = LocalContext(tmp_path, {FILE: text}, cache=cache)
    assert train(params, again) == whole[0]
    again.close()
    assert contents(tmp_path) == contents(whole[1])


def test_another_seed_is_another_model(whole, run, tmp_path):
    result = run(tmp_path, seed=1, steps=1)
    assert result.loss_first != whole[0].loss_first


def test_it_goes_on_from_its_own_checkpoint(whole, run, tmp_path):
    shape = dict.fromkeys(("layers", "d_model", "heads"))
    result = run(tmp_path, {MODEL: whole[1] / "model.tar"}, model=MODEL, steps=5, lr=1e-4, **shape)
    assert result.loss_first < 2 * whole[0].loss_last
    assert result.mean_dropout > 0.04  # no curriculum over steps: dropout is there at once


@pytest.mark.parametrize("tied", [False, True])
def test_both_kinds_of_head_train_and_save(run, tmp_path, tied):
    run(tmp_path / "out", steps=3, tied=tied)
    model = load_llama(unpacked(tmp_path / "out" / "model.tar", tmp_path / "model"))
    assert model.config.tied == tied
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


def test_transformers_reads_the_trained_model_and_its_tokenizer(whole, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = unpacked(whole[1] / "model.tar", tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([list(b"def f(x):\n")])
    with torch.inference_mode():
        torch.testing.assert_close(theirs(ids).logits, load_llama(folder)(ids), atol=1e-5, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("naïve é")["input_ids"] == list("naïve é".encode())


@pytest.mark.parametrize(
    "params",
    [
        {"preset": "trl"}, {"curriculum": "gradual"}, {"curriculum": "none", "loss_weights": "linear"},
        {"precision": "bfloat16"}, {"recompute": True}, {"rotation_mask": [True, False, False]}, {"kv_heads": 1},
        {"p_max": 0.0, "e_scale": 0.0},
    ],
    ids=lambda params: " ".join(params),
)  # fmt: skip
def test_every_variant_of_the_recipe_learns(run, tmp_path, params):
    result = run(tmp_path, steps=25, **params)
    assert result.loss_last < 0.9 * result.loss_first


def test_steps_without_any_weight_are_counted_and_learn_nothing(run, tmp_path):
    # Trap: only layer 0 is on in every third step, and e(0) = 0.
    result = run(tmp_path, steps=6, always_last=False, R=3)
    assert result.skipped_steps == 2


def test_a_short_run_with_faint_early_exits_is_warned_of(run, tmp_path):
    assert "hardly trains early exits" in run(tmp_path, steps=2, e_scale=0.2).warnings[0]


# Prompts and responses ------------------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [json.dumps({"prompt": f"What is {n} + 1?", "response": f"It is {n + 1}."}) for n in range(60)]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("loss_on", ["response", "all"])
def test_prompts_with_responses_are_learnt(run, tmp_path, pairs, loss_on):
    result = run(tmp_path / "out", {OTHER: pairs}, text=None, data=OTHER, loss_on=loss_on, steps=60)
    assert result.loss_last < 0.7 * result.loss_first


def test_loss_on_responses_leaves_prompts_out():
    from workers.layerskip.corpus import IGNORED, Examples

    tokens = Bytes()
    corpus = Examples([(tokens.encode("ab"), tokens.encode("cd")), (tokens.encode("e"), tokens.encode("f"))], "x")
    first, second = corpus.spread(2, 100)
    assert first.ids.tolist() == [list(b"abc")]
    assert first.targets.tolist() == [[IGNORED, *b"cd"]]
    assert second.targets.tolist() == [list(b"f")]


# Keeping --------------------------------------------------------------------------------------------------------------


def test_a_kept_model_is_a_builtin_and_not_trained_twice(run, context, tmp_path, text, contents):
    first = run(tmp_path / "a", steps=4, keep_as="little")
    ctx = context(tmp_path / "b", {FILE: text})
    said = []
    ctx.log = said.append
    assert train(TrainParams(**{**SMALL, "steps": 4, "keep_as": "little"}), ctx) == first
    assert (ctx.input(Ref("builtin:little")) / "model.safetensors").exists()
    ctx.close()
    assert "not trained again" in said[0]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert run(tmp_path / "c", steps=5, keep_as="little") != first  # another recipe takes its place


# Refusals -------------------------------------------------------------------------------------------------------------


def test_a_text_shorter_than_a_block_is_refused_before_anything_is_written(run, tmp_path):
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(InvalidInput, match=r"has 4 tokens, a block takes 33; give a longer text"):
        run(tmp_path / "out", {FILE: tmp_path / "short.txt"})
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_file()] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b'{"prompt": "a"}', "line 1 has no response", id="no-response"),
        pytest.param(b'{"prompt": "a", "response": "b"}\n{"prompt": ""}', "line 2 has no prompt", id="empty-prompt"),
        pytest.param(b'{"prompt": "a", "response": "b"}\nnonsense', "line 2 is no JSON", id="no-json"),
        pytest.param(b'{"prompt": "a", "response": "b"}\n[]', "line 2 is no object", id="no-object"),
        pytest.param(b'{"prompt": "a", "response": "b"}\n\xff', "line 2 is not UTF-8", id="not-utf8"),
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b'{"prompt": "a", "response": "b"}', "one line only", id="nothing-to-hold-out"),
    ],
)
def test_bad_lines_are_refused_by_number(run, tmp_path, content, said):
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        run(tmp_path / "out", {OTHER: tmp_path / "bad.jsonl"}, text=None, data=OTHER)


def test_a_text_that_is_not_utf8_is_refused(run, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff" + b"x" * 100)
    with pytest.raises(InvalidInput, match="line 2 is not UTF-8"):
        run(tmp_path / "out", {FILE: tmp_path / "bad.txt"})


@pytest.fixture
def broken(tmp_path, byte_tar):
    """A copy of a model folder to break."""
    return unpacked(byte_tar, tmp_path / "broken")


NO_SHAPE = dict.fromkeys(("layers", "d_model", "heads"))


def test_a_model_that_is_no_llama_is_refused(run, tmp_path, broken):
    edit_config(broken, model_type="gpt2")
    with pytest.raises(InvalidInput, match="no Llama checkpoint: model_type is 'gpt2'"):
        run(tmp_path / "out", {MODEL: pack(broken, tmp_path / "m.tar")}, model=MODEL, **NO_SHAPE)


def test_pickled_weights_are_refused(run, tmp_path, broken):
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match="pickled weights are not loaded"):
        run(tmp_path / "out", {MODEL: pack(broken, tmp_path / "m.tar")}, model=MODEL, **NO_SHAPE)


def test_a_model_that_claims_a_tied_head_and_holds_another_is_refused(run, tmp_path, broken):
    edit_config(broken, tie_word_embeddings=True)
    with pytest.raises(InvalidInput, match=r"tie_word_embeddings is true, but lm_head.weight differs"):
        run(tmp_path / "out", {MODEL: pack(broken, tmp_path / "m.tar")}, model=MODEL, **NO_SHAPE)


def test_blocks_longer_than_the_models_context_are_refused(run, tmp_path, byte_tar):
    with pytest.raises(InvalidInput, match="block_size 500 is longer than the context 256"):
        run(tmp_path / "out", {MODEL: byte_tar}, model=MODEL, block_size=500, **NO_SHAPE)


def test_token_ids_beyond_the_models_vocabulary_are_refused(run, tmp_path, broken, micro_tar):
    folder = unpacked(micro_tar, tmp_path / "micro")
    (folder / "tokenizer.json").write_bytes(Bytes().packed())
    with pytest.raises(InvalidInput, match=r"is beyond the vocabulary .* 0..31"):
        run(tmp_path / "out", {MODEL: pack(folder, tmp_path / "m.tar")}, model=MODEL, **NO_SHAPE)


def test_a_model_without_tokenizer_asks_for_one(run, tmp_path, micro_tar):
    with pytest.raises(InvalidInput, match=r"has no tokenizer.json"):
        run(tmp_path / "out", {MODEL: micro_tar}, model=MODEL, **NO_SHAPE)


# Evaluation -----------------------------------------------------------------------------------------------------------


def evaluate(context, folder, inputs, **params):
    ctx = context(folder, inputs)
    result = eval_exits(EvalExitsParams(**{"model": MODEL, "eval_data": FILE, "block_size": 32, **params}), ctx)
    ctx.close()
    return result


def test_exits_are_scored_alike_in_training_and_by_themselves(whole, context, tmp_path, text):
    tail = tmp_path / "tail.txt"
    tail.write_text(TEXT[int(0.95 * len(TEXT)) :])
    result = evaluate(context, tmp_path / "out", {MODEL: whole[1] / "model.tar", FILE: tail}, windows=8, block_size=48)
    losses = [each.loss for each in result.exits]
    assert losses == pytest.approx([each.loss for each in whole[0].exits], abs=0.15)
    assert result.tokens == 8 * 48


@pytest.mark.parametrize("stop_at", [40, 100])
def test_evaluation_killed_in_the_middle_gives_the_same_bytes(whole, tmp_path, text, cache, contents, stop_at):
    params = EvalExitsParams(model=MODEL, baseline=MODEL, eval_data=FILE, block_size=32, windows=64, batch_size=4)
    inputs = {MODEL: whole[1] / "model.tar", FILE: text}
    straight = LocalContext(tmp_path / "a", inputs, cache=cache)
    expected = eval_exits(params, straight)
    straight.close()
    ctx = Stop(tmp_path / "b", inputs, cache=cache)
    ctx.stop_at = stop_at
    with pytest.raises(Cancelled):
        eval_exits(params, ctx)
    ctx.release()
    again = LocalContext(tmp_path / "b", inputs, cache=cache)
    assert eval_exits(params, again) == expected
    again.close()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_baseline_is_scored_on_the_same_windows_beside_the_model(whole, context, tmp_path, text, byte_tar):
    inputs = {MODEL: whole[1] / "model.tar", OTHER: byte_tar, FILE: text}
    both = evaluate(context, tmp_path / "both", inputs, baseline=OTHER, windows=8)
    alone = [
        evaluate(context, tmp_path / each, inputs, model=own, windows=8) for each, own in (("a", MODEL), ("b", OTHER))
    ]
    assert [both.exits, both.baseline] == [each.exits for each in alone]
    figure = json.loads((tmp_path / "both" / "perplexity.plotly.json").read_text())
    assert [trace["name"] for trace in figure["data"]] == ["this model", "baseline"]
    assert figure["layout"]["yaxis"]["type"] == "log"
    assert alone[0].baseline == []


def test_a_baseline_of_another_vocabulary_is_refused(whole, context, tmp_path, text, micro_tar):
    inputs = {MODEL: whole[1] / "model.tar", OTHER: micro_tar, FILE: text}
    with pytest.raises(InvalidInput, match=r"beyond the vocabulary of file:c"):
        evaluate(context, tmp_path / "out", inputs, baseline=OTHER)


def test_answers_at_every_exit_are_scored_against_responses(context, byte_tar, tmp_path, pairs):
    result = evaluate(context, tmp_path / "out", {MODEL: byte_tar, FILE: pairs}, task="generate", task_samples=3,
                      max_new_tokens=8)  # fmt: skip
    assert [task.exit_layer for task in result.tasks] == [1, 2, 3]
    assert all(task.samples == 3 and task.edit_distance > 0 for task in result.tasks)


def test_a_task_without_responses_is_refused(context, byte_tar, tmp_path, text):
    with pytest.raises(InvalidInput, match="task generate needs JSONL"):
        evaluate(context, tmp_path / "out", {MODEL: byte_tar, FILE: text}, task="generate")


def test_perplexity_is_null_where_it_is_no_number():
    assert perplexity(0.0, 0) is None
    assert perplexity(1e6, 1) is None
    assert perplexity(2.0, 2) == pytest.approx(math.e)


# Tokenizers -----------------------------------------------------------------------------------------------------------


def test_the_tokenizer_of_bytes_is_read_by_the_library_with_the_same_ids(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(Bytes().packed())
    theirs, text = Pretrained(tmp_path / "tokenizer.json"), "naïve\t\n日本 \x00\x7f"
    assert theirs.encode(text).tolist() == Bytes().encode(text).tolist() == list(text.encode())
    assert theirs.decode(list(text.encode())) == Bytes().decode(list(text.encode())) == text
    assert isinstance(read_tokens(tmp_path / "tokenizer.json"), Bytes)


def test_streamed_text_says_a_character_once_it_is_whole(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(Bytes().packed())
    for tokens in (Bytes(), Pretrained(tmp_path / "tokenizer.json")):
        streamed = Streamed(tokens)
        assert "".join(streamed.more([byte]) for byte in "aé日!".encode()) == "aé日!"


def test_a_damaged_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidInput, match="is no tokenizer"):
        read_tokens(tmp_path / "tokenizer.json")
