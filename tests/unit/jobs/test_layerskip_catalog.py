"""What LayerSkip's Params alone show to be wrong is refused with the field named."""

import pytest
from pydantic import ValidationError

from shared.jobs.catalog.layerskip import KINDS, BenchParams, EvalExitsParams, GenerateParams, TrainParams, TuneParams

MODEL, TEXT = "file:" + "a" * 64, "builtin:stdlib"
GENERATE = {"model": MODEL, "prompts": ["x"]}


@pytest.mark.parametrize(
    ("params", "values"),
    [
        (GenerateParams(**GENERATE), {
            "exit_layer": "auto", "num_speculations": "auto", "policy": "static", "sample": False, "temperature": 0.6,
            "top_p": 0.9, "top_k": 0, "max_new_tokens": 512, "stop_words": [], "stop_token_ids": [],
            "no_repeat_ngram_size": 0, "n_shot": 0, "num_samples": None, "random_shuffle": True, "seed": 42}),
        (TuneParams(**GENERATE), {"speculations": [1, 2, 3, 4, 5, 6], "exit_layers": []}),
        (BenchParams(**GENERATE), {"rounds": 3, "transformers": True}),
        (EvalExitsParams(model=MODEL, eval_data=TEXT), {"block_size": 256, "windows": 64}),
        (TrainParams(text=TEXT, lr=1e-3), {"steps": 400, "batch_size": 8, "block_size": 128, "loss_on": "response"}),
    ],
    ids=["generate", "tune", "bench", "eval_exits", "train"],
)  # fmt: skip
def test_defaults_are_those_of_the_specification(params, values):
    assert {name: getattr(params, name) for name in values} == values


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        pytest.param(TrainParams, {"text": TEXT}, "lr is required without a preset", id="no-lr"),
        pytest.param(TrainParams, {"preset": "short"}, "exactly one of text and data", id="no-text"),
        pytest.param(TrainParams, {"preset": "short", "text": TEXT, "data": MODEL}, "exactly one", id="text-and-data"),
        pytest.param(TrainParams, {"preset": "short", "text": TEXT, "model": MODEL, "layers": 4},
                     "layers come from the checkpoint", id="shape-of-a-checkpoint"),
        pytest.param(TrainParams, {"preset": "short", "text": TEXT, "d_model": 36, "heads": 8}, "even multiple",
                     id="heads"),
        pytest.param(TrainParams, {"preset": "short", "text": TEXT, "kv_heads": 3}, "multiple of kv_heads", id="kv"),
        pytest.param(TrainParams, {"preset": "short", "text": TEXT, "block_size": 99, "context": 64},
                     "longer than context", id="block-beyond-context"),
        pytest.param(TrainParams, {"preset": "short", "text": TEXT, "R": 2, "rotation_mask": [True] * 8}, "give one",
                     id="two-rotations"),
        pytest.param(TrainParams, {"preset": "short", "text": TEXT, "rotation_mask": [True]}, "one a layer", id="mask"),
        pytest.param(TrainParams, {"preset": "short", "text": TEXT, "p_max": 1.0}, "less than 1", id="p_max"),
        pytest.param(TrainParams, {"preset": "llama9", "text": TEXT}, "short", id="preset"),
        pytest.param(GenerateParams, GENERATE | {"policy": "adaptive"}, "needs tune", id="adaptive-untuned"),
        pytest.param(GenerateParams, GENERATE | {"policy": "heuristic", "strategy": "autoregressive"},
                     "for strategy self_speculative", id="policy-of-plain"),
        pytest.param(GenerateParams, GENERATE | {"policy": "heuristic", "batch_size": 2}, "batch_size must be 1",
                     id="policy-of-batch"),
        pytest.param(GenerateParams, GENERATE | {"prompts": []}, "at least 1", id="no-prompts"),
        pytest.param(GenerateParams, GENERATE | {"prompts": [""]}, "at least 1", id="empty-prompt"),
        pytest.param(GenerateParams, GENERATE | {"prompts": [[]]}, "at least 1", id="empty-ids"),
        pytest.param(GenerateParams, GENERATE | {"prompts": [[-1]]}, "greater than or equal to 0", id="negative-id"),
        pytest.param(GenerateParams, GENERATE | {"exit_layer": 0}, "greater than or equal to 1", id="exit-zero"),
        pytest.param(GenerateParams, GENERATE | {"n_shot": 1}, "examples from a file", id="shots-inline"),
        pytest.param(GenerateParams, GENERATE | {"strategy": "magic"}, "autoregressive", id="strategy"),
        pytest.param(TuneParams, GENERATE | {"stop_words": ["x"]}, "stop_token_ids", id="tune-by-words"),
        pytest.param(TuneParams, GENERATE | {"speculations": [2, 2]}, "names one twice", id="draft-length-twice"),
        pytest.param(EvalExitsParams, {"model": "endpoint:a/b", "eval_data": TEXT}, "not a reference", id="endpoint"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(model, params, said):
    with pytest.raises(ValidationError, match=said):
        model.model_validate(params)


def test_token_ids_and_texts_are_both_prompts():
    assert GenerateParams(model=MODEL, prompts=[[1, 2], [3]]).prompts == [[1, 2], [3]]
    assert GenerateParams(model=MODEL, prompts=["a"]).prompts == ["a"]


def test_measured_fields_exist_and_only_measurements_are_measured():
    for spec in KINDS:
        fields = [name for name in spec.measured if "." not in name]
        assert set(fields) <= set(spec.result.model_fields)
    assert {spec.kind for spec in KINDS if any("." not in name for name in spec.measured)} == {
        "layerskip.tune", "layerskip.bench",
    }  # fmt: skip
