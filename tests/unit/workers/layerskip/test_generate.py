"""Generation as a job: outputs, events, policies, batches, files of prompts, refusals, killed anywhere; and tuning."""

import json

import pytest
import torch

from shared.jobs.catalog.layerskip import BenchParams, GenerateParams, TuneParams
from shared.jobs.errors import Cancelled, InvalidInput
from shared.jobs.local import LocalContext
from tests.tiny_model import edit_config, pack
from workers.layerskip.jobs import bench, generate, tune

MODEL, FILE, TUNE = (f"file:{letter * 64}" for letter in "abc")
PROMPT = [3, 1, 4, 1, 5]
FULL = [3, 2, 21, 3, 2, 21, 3, 2, 24, 25, 21, 3, 2, 21, 3, 2, 21, 3, 2, 21, 3, 28, 3, 2]
TEXTS = ["def f(x):\n", "import os", "class A"]


@pytest.fixture
def run(context, micro_tar):
    def make(folder, inputs=None, say=lambda event, data: None, **params):
        ctx = context(folder, {MODEL: micro_tar, **(inputs or {})}, say)
        result = generate(GenerateParams(**{"model": MODEL, "prompts": [PROMPT], "max_new_tokens": 24, **params}), ctx)
        ctx.close()
        return result

    return make


@pytest.mark.parametrize("strategy", ["autoregressive", "self_speculative"])
def test_token_ids_without_a_tokenizer_give_the_published_tokens(run, tmp_path, strategy):
    result = run(tmp_path, strategy=strategy)
    (output,) = result.outputs
    assert (output.token_ids, output.text, output.finish_reason) == (FULL, None, "length")
    assert result.outputs_total == 1
    lines = (tmp_path / "outputs.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["token_ids"] == FULL


def test_steps_and_rates_are_those_of_the_published_run(run, tmp_path):
    result = run(tmp_path, exit_layer=2, num_speculations=3)
    assert (result.accepted, result.drafted, result.steps) == (16, 22, 8)
    assert result.acceptance_micro == pytest.approx(0.727273, abs=1e-6)
    assert result.tokens_per_step == 3.0
    steps = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [(step["E"], step["k"], step["accepted"]) for step in steps][:4] == [(2, 3, 3)] * 3 + [(2, 3, 1)]
    assert {"accepted.plotly.json", "results.json", "speed.jsonl"} <= {path.name for path in tmp_path.iterdir()}


def test_auto_is_a_quarter_of_the_layers_and_four_drafts(run, tmp_path):
    result = run(tmp_path)
    assert (result.exit_layer, result.num_speculations) == (1, 4)


def test_no_drafts_give_no_rate_instead_of_a_division_by_zero(run, tmp_path):
    result = run(tmp_path, num_speculations=0)
    assert (result.acceptance_micro, result.acceptance_macro, result.outputs[0].acceptance_rate) == (None, None, None)


def test_an_end_at_once_gives_an_empty_output(run, tmp_path):
    result = run(tmp_path, stop_token_ids=[3])
    assert (result.outputs[0].num_tokens, result.outputs[0].finish_reason, result.empty_outputs) == (0, "eos", 1)
    assert result.outputs[0].drafted == 1


def test_host_syncs_are_counted(run, tmp_path):
    assert run(tmp_path / "a", strategy="autoregressive").host_syncs_per_step == 1.0
    assert run(tmp_path / "b", exit_layer=2, num_speculations=3).host_syncs_per_step == pytest.approx(1 + 22 / 8)


# Texts ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def said(run, byte_tar, tmp_path):
    """(result, token events) of texts by the byte model."""

    def make(folder="said", **params):
        events = []
        result = run(
            tmp_path / folder, {MODEL: byte_tar}, lambda event, data: events.append((event, data)),
            **{"prompts": TEXTS, "max_new_tokens": 20, **params},
        )  # fmt: skip
        return result, [data for event, data in events if event == "token"]

    return make


@pytest.mark.parametrize("strategy", ["autoregressive", "early_exit", "self_speculative"])
def test_tokens_are_streamed_as_text_by_prompt(said, strategy):
    result, tokens = said(strategy=strategy, exit_layer=2)
    for output in result.outputs:
        streamed = "".join(data["text"] for data in tokens if data["prompt"] == output.prompt)
        assert output.text.startswith(streamed)
        assert len(output.text) - len(streamed) <= 1  # the last character may be half a one


def test_a_batch_answers_as_each_prompt_alone(said):
    alone, batched = said("alone")[0], said("batched", batch_size=3)[0]
    assert alone.outputs == batched.outputs


@pytest.mark.parametrize("policy", ["constant", "heuristic", "heuristic_transient"])
def test_every_policy_gives_the_plain_tokens(said, policy):
    plain = said("plain", strategy="autoregressive")[0]
    found = said("found", policy=policy)[0]
    assert [output.token_ids for output in found.outputs] == [output.token_ids for output in plain.outputs]


def test_a_confidence_threshold_ends_drafts_early(said):
    certain = said("all", num_speculations=6)[0]
    careful = said("few", num_speculations=6, assistant_confidence_threshold=0.99)[0]
    assert careful.drafted < certain.drafted
    assert [o.token_ids for o in careful.outputs] == [o.token_ids for o in certain.outputs]


def test_a_stop_word_cuts_in_the_middle_of_an_accepted_run(said):
    # Trap: stop words are looked for on committed text, token by token.
    plain = said("plain", strategy="autoregressive")[0].outputs[0]
    word = plain.text[5:7]
    first = plain.text.index(word)
    for strategy in ("autoregressive", "self_speculative"):
        cut = said(f"cut-{strategy}", strategy=strategy, stop_words=[word], prompts=TEXTS[:1])[0].outputs[0]
        assert (cut.text, cut.finish_reason) == (plain.text[:first], "stop")
        assert cut.token_ids == plain.token_ids[: cut.num_tokens]


def test_sampling_depends_on_the_seed_and_the_prompts_number_alone(said):
    sampled = {"sample": True, "temperature": 1.0, "top_p": 1.0}
    one, again = said("one", **sampled)[0], said("again", **sampled)[0]
    other = said("other", seed=7, **sampled)[0]
    assert one.outputs == again.outputs
    assert one.outputs != other.outputs
    assert said("batch", batch_size=3, **sampled)[0].outputs == one.outputs


def test_long_results_are_cut_and_the_file_has_all(run, byte_tar, tmp_path):
    result = run(tmp_path, {MODEL: byte_tar}, prompts=["x"] * 200, max_new_tokens=40, strategy="autoregressive",
                 batch_size=100)  # fmt: skip
    assert len(result.outputs) < result.outputs_total == 200
    assert len((tmp_path / "outputs.jsonl").read_text().splitlines()) == 200
    assert len(result.model_dump_json()) < 65_536


# Files of prompts -----------------------------------------------------------------------------------------------------


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_file_brings_references_that_answers_are_scored_against(run, byte_tar, tmp_path):
    path = lines(tmp_path / "p.jsonl", *({"prompt": f"say {n}", "response": "yes"} for n in range(4)))
    result = run(tmp_path / "out", {MODEL: byte_tar, FILE: path}, prompts=FILE, max_new_tokens=5, num_samples=3)
    assert result.outputs_total == 3
    assert result.references.edit_distance > 0


@pytest.mark.parametrize(
    ("form", "record"),
    [
        ("cnn_dm", {"article": "Long.", "highlights": "Short."}),
        ("xsum", {"document": "Long.", "summary": "Short."}),
        ("humaneval", {"prompt": "def f", "canonical_solution": "pass"}),
        ("topv2", {"utterance": "wake me", "semantic_parse": "[IN:CREATE_ALARM]"}),
        ("auto", {"prompt": "a", "response": "b"}),
    ],
)
def test_the_fields_formats_are_read_with_examples_before(run, byte_tar, tmp_path, form, record):
    path = lines(tmp_path / "p.jsonl", *[record] * 3)
    result = run(tmp_path / "out", {MODEL: byte_tar, FILE: path}, prompts=FILE, prompt_format=form, n_shot=1,
                 max_new_tokens=3)  # fmt: skip
    assert result.outputs_total == 2
    assert result.references is not None


def test_text_is_cut_into_pieces_of_prompt_and_reference(run, byte_tar, tmp_path):
    (tmp_path / "p.txt").write_text("abcdefgh" * 10)
    result = run(tmp_path / "out", {MODEL: byte_tar, FILE: tmp_path / "p.txt"}, prompts=FILE, prompt_format="lm",
                 prompt_tokens=12, max_new_tokens=8)  # fmt: skip
    assert result.outputs_total == 4
    assert result.references is not None


def test_summaries_are_prompted_as_the_official_benchmark_does(byte_tar):
    from workers.layerskip.prompts import _TEMPLATES

    pair = _TEMPLATES["cnn_dm"]({"article": "Long.", "highlights": "Short."}, "x", 1)
    assert pair == ("Article: Long.\nSummary:", " Short.")


# Killed ---------------------------------------------------------------------------------------------------------------


class Stop(LocalContext):
    """Cancels itself at so many tokens."""

    stop_at = 0

    def progress(self, done, total, unit, message=""):
        if done >= self.stop_at:
            self.cancelled = True
        super().progress(done, total, unit, message)


@pytest.mark.parametrize("policy", ["static", "heuristic"])
@pytest.mark.parametrize("stop_at", [5, 25, 50])
def test_killed_anywhere_it_gives_the_same_bytes(tmp_path, cache, byte_tar, contents, policy, stop_at):
    params = GenerateParams(model=MODEL, prompts=TEXTS, max_new_tokens=20, policy=policy, sample=True)
    inputs = {MODEL: byte_tar}
    straight = LocalContext(tmp_path / "a", inputs, cache=cache)
    expected = generate(params, straight)
    straight.close()
    ctx = Stop(tmp_path / "b", inputs, cache=cache)
    ctx.stop_at = stop_at
    with pytest.raises(Cancelled):
        generate(params, ctx)
    ctx.release()
    again = LocalContext(tmp_path / "b", inputs, cache=cache)
    assert generate(params, again) == expected
    again.close()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "said"),
    [
        pytest.param({"exit_layer": 4}, r"exit_layer 4 is outside 1..3 for the 4 layers", id="exit-is-the-last-layer"),
        pytest.param({"exit_layer": 9}, r"exit_layer 9 is outside 1..3", id="exit-outside"),
        pytest.param({"prompts": [[32]]}, r"prompt 0 has token id 32; ids of .* are 0..31", id="token-id"),
        pytest.param({"prompts": [[1], [2] * 128]}, "prompt 1 is 128 tokens long; .* context of 128", id="long-prompt"),
        pytest.param({"prompts": ["text"]}, r"has no tokenizer.json; give prompts as lists of token ids", id="text"),
        pytest.param({"stop_words": ["x"]}, "stop_words need a tokenizer", id="stop-words"),
    ],
)
def test_what_cannot_be_decoded_is_refused_before_anything_is_written(run, tmp_path, params, said):
    with pytest.raises(InvalidInput, match=said):
        run(tmp_path, **params)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_refusals_come_before_weights_are_loaded(run, tmp_path, byte_tar):
    import tarfile

    with tarfile.open(byte_tar) as archive:
        archive.extractall(tmp_path / "m", filter="data")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"not weights")
    broken = {MODEL: pack(tmp_path / "m", tmp_path / "m.tar")}
    with pytest.raises(InvalidInput, match="exit_layer 3 is outside"):
        run(tmp_path / "a", broken, prompts=["x"], exit_layer=3)
    with pytest.raises(InvalidInput, match="can't be read"):
        run(tmp_path / "b", broken, prompts=["x"])
    edit_config(tmp_path / "m", model_type="bert")
    with pytest.raises(InvalidInput, match="only llama checkpoints"):
        run(tmp_path / "c", {MODEL: pack(tmp_path / "m", tmp_path / "n.tar")}, prompts=["x"])


def test_a_prompt_that_fills_the_context_ends_there(run, tmp_path):
    result = run(tmp_path, prompts=[[1] * 120], max_new_tokens=50)
    assert (result.outputs[0].num_tokens, result.outputs[0].finish_reason) == (8, "context")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param('{"prompt": "a"}\n{"question": "b"}', "line 2 has none of the fields prompt", id="no-prompt"),
        pytest.param('{"prompt": "a"}\n{', "line 2 is no JSON", id="no-json"),
        pytest.param("", "is empty", id="empty"),
    ],
)
def test_bad_files_of_prompts_are_refused_by_line(run, byte_tar, tmp_path, content, said):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(InvalidInput, match=said):
        run(tmp_path / "out", {MODEL: byte_tar, FILE: tmp_path / "p.jsonl"}, prompts=FILE)


# Tuning ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tuned(context, micro_tar):
    def make(folder, **params):
        ctx = context(folder, {MODEL: micro_tar})
        given = {"model": MODEL, "prompts": [PROMPT, [7], [9, 8]], "max_new_tokens": 24, "repeats": 1}
        result = tune(TuneParams(**{**given, **params}), ctx)
        ctx.close()
        return result

    return make


def test_tuning_simulates_what_real_runs_do(tuned, tmp_path):
    result = tuned(tmp_path, confirm=18)
    assert result.counts_equal
    assert (result.ids_equal, result.divergences) == (True, [])
    assert len(result.best) == 12
    assert all(choice.measured_speedup > 0 for choice in result.best)
    rows = (tmp_path / "sweep.csv").read_text().splitlines()
    assert rows[0].startswith(
        "exit_layer,num_speculations,acceptance_rate,total_time,time_per_token,tokens_per_second,predicted_speedup"
    )
    assert len(rows) == 1 + 3 * 6


def test_a_run_that_leaves_the_plain_tokens_is_named_with_its_margin(tuned, tmp_path, monkeypatch):
    """A cache whose later rows were spoilt by the first draft would show like this."""
    from workers.layerskip.decoding import Decoding

    real = Decoding.speculative

    def spoilt(self, answer, policy, rng, emit=lambda tokens: None):
        real(self, answer, policy, rng, emit)
        if answer.prompt == [7]:
            answer.emitted[5] = 30
        return answer

    monkeypatch.setattr(Decoding, "speculative", spoilt)
    result = tuned(tmp_path, confirm=2, repeats=2)
    assert (result.ids_equal, result.counts_equal) == (False, True)
    assert [(each.prompt, each.position) for each in result.divergences] == [(1, 5)] * 2  # once each (E, K)
    assert all(each.margin > 0 for each in result.divergences)


def test_the_simulated_rate_is_the_published_one(tuned, tmp_path):
    result = tuned(tmp_path, prompts=[PROMPT], exit_layers=[2], speculations=[3])
    assert result.best[0].acceptance_rate == pytest.approx(16 / 22)
    assert result.best[0].tokens_per_step == 3.0


def test_not_to_speculate_is_a_legal_answer(tuned, context, micro_tar, tmp_path, monkeypatch):
    monkeypatch.setattr("workers.layerskip.tuning.LEAST_GAIN", 100.0)
    result = tuned(tmp_path / "tune")
    assert (result.pays, result.exit_layer, result.num_speculations) == (False, None, None)
    assert "does not pay here" in result.verdict
    ctx = context(tmp_path / "out", {MODEL: micro_tar, TUNE: tmp_path / "tune" / "tune.json"})
    plain = generate(GenerateParams(model=MODEL, prompts=[PROMPT], max_new_tokens=24, tune=TUNE), ctx)
    assert (plain.num_speculations, plain.outputs[0].token_ids) == (0, FULL)
    assert "doesn't pay" in plain.warnings[0]


def test_a_choice_and_its_costs_go_into_generation(tuned, context, micro_tar, tmp_path):
    tuned(tmp_path / "tune", exit_layers=[3], speculations=[2])
    said = json.loads((tmp_path / "tune" / "tune.json").read_text())
    said |= {"exit_layer": 3, "num_speculations": 2, "pays": True}
    (tmp_path / "tune.json").write_text(json.dumps(said))
    for policy in ("static", "adaptive"):
        ctx = context(tmp_path / policy, {MODEL: micro_tar, TUNE: tmp_path / "tune.json"})
        params = GenerateParams(model=MODEL, prompts=[PROMPT], max_new_tokens=24, tune=TUNE, policy=policy)
        result = generate(params, ctx)
        assert (result.exit_layer, result.num_speculations) == (3, 2)
        assert result.outputs[0].token_ids == FULL


def test_a_file_that_is_no_tuning_is_refused(run, tmp_path):
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"is no tune.json"):
        run(tmp_path / "out", {TUNE: tmp_path / "t.json"}, tune=TUNE)


def test_an_exit_to_tune_outside_the_model_is_refused(tuned, tmp_path):
    with pytest.raises(InvalidInput, match=r"exit_layers 4 is outside 1..3"):
        tuned(tmp_path, exit_layers=[1, 4])


def test_a_resumed_tuning_records_the_same_and_measures_again(tmp_path, cache, micro_tar):
    params = TuneParams(model=MODEL, prompts=[PROMPT, [7], [9, 8]], max_new_tokens=24, repeats=1)
    straight = LocalContext(tmp_path / "a", {MODEL: micro_tar}, cache=cache)
    expected = tune(params, straight)
    straight.close()
    ctx = Stop(tmp_path / "b", {MODEL: micro_tar}, cache=cache)
    ctx.stop_at = 30
    with pytest.raises(Cancelled):
        tune(params, ctx)
    ctx.release()
    again = LocalContext(tmp_path / "b", {MODEL: micro_tar}, cache=cache)
    found = tune(params, again)
    again.close()
    assert (found.tokens, found.counts_equal, found.warnings) == (expected.tokens, True, expected.warnings)
    for name in ("acceptance.plotly.json", "accepted.plotly.json", "tokens.plotly.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_sampled_tuning_expects_the_overlap_of_distributions(tuned, tmp_path):
    result = tuned(tmp_path, sample=True, temperature=1.0, top_p=1.0)
    assert all(0 < choice.acceptance_rate < 1 for choice in result.best)


# Benchmarking ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_strategies_are_timed_beside_transformers_with_equal_outputs(context, tmp_path, byte_tar):
    ctx = context(tmp_path, {MODEL: byte_tar})
    params = BenchParams(model=MODEL, prompts=TEXTS[:2], max_new_tokens=12, rounds=1, exit_layers=[1], speculations=[2])
    result = bench(params, ctx)
    rows = {row.strategy: row for row in result.rows}
    assert set(rows) == {
        "autoregressive", "early_exit", "self_speculative", "transformers generate",
        "transformers assistant_early_exit",
    }  # fmt: skip
    assert rows["self_speculative"].equal_outputs == 2
    assert rows["transformers generate"].equal_outputs == 2
    assert rows["transformers assistant_early_exit"].equal_outputs == 2
    assert rows["autoregressive"].speedup == 1.0
    assert result.environment["torch"] == torch.__version__
    assert json.loads((tmp_path / "results.json").read_text())["prompts"] == 2  # one document


# Half precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_decode_by_every_strategy_and_fall_back_to_plain_products(said, dtype):
    # Trap: ties are common in halves; what a run says may part from plain, and may not fail.
    for strategy in ("autoregressive", "early_exit", "self_speculative"):
        result, _ = said(f"{dtype}-{strategy}", dtype=dtype, strategy=strategy, exit_layer=2)
        assert [output.num_tokens for output in result.outputs] == [20] * 3
        assert result.kernel == "plain"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_divergences_of_halves_are_counted_with_their_margins_and_not_hidden(tuned, tmp_path, dtype):
    result = tuned(tmp_path, dtype=dtype, confirm=6)
    assert result.ids_equal == (result.divergences == [])
    assert result.counts_equal  # of the runs that did not part
    assert all(each.margin < 0.1 for each in result.divergences)
