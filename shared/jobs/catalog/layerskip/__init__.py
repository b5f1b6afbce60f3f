"""The kinds of LayerSkip (arXiv 2404.16710): train to exit early, decode by speculating on oneself.

`layerskip.train` teaches a Llama's head to read tokens after any layer; `layerskip.eval_exits` measures every exit;
`layerskip.generate` decodes, plain, by an early exit, or drafting with the first E layers and verifying with the rest;
`layerskip.tune` finds the E and K that pay, from one pass; `layerskip.bench` puts the strategies side by side.
"""

from shared.jobs.catalog.layerskip.decoding import (
    BenchParams,
    BenchResult,
    BenchRow,
    Choice,
    Costs,
    Divergence,
    GenerateParams,
    GenerateResult,
    Output,
    PromptParams,
    TextFigures,
    TuneParams,
    TuneResult,
)
from shared.jobs.catalog.layerskip.presets import Preset
from shared.jobs.catalog.layerskip.training import (
    EvalExitsParams,
    EvalExitsResult,
    ExitFigures,
    TaskFigures,
    TrainParams,
    TrainResult,
)
from shared.jobs.spec import JobSpec

__all__ = [
    "KINDS", "BenchParams", "BenchResult", "BenchRow", "Choice", "Costs", "Divergence", "EvalExitsParams",
    "EvalExitsResult", "ExitFigures", "GenerateParams", "GenerateResult", "Output", "Preset", "PromptParams",
    "TaskFigures", "TextFigures", "TrainParams", "TrainResult", "TuneParams", "TuneResult",
]  # fmt: skip

KINDS = [
    JobSpec(
        "layerskip.train", TrainParams, TrainResult, pool="gpu",
        summary="Train a Llama with layer dropout and early-exit loss, from scratch or on from a checkpoint.",
        progress_unit="steps", checkpoint_grain="50 steps",
    ),
    JobSpec(
        "layerskip.eval_exits", EvalExitsParams, EvalExitsResult, pool="gpu",
        summary="Measure the model after every layer: loss, perplexity, agreement with the last.",
        progress_unit="windows", checkpoint_grain="16 windows",
    ),
    JobSpec(
        "layerskip.generate", GenerateParams, GenerateResult, pool="gpu",
        summary="Decode prompts, plain, by an early exit or speculating on oneself, streaming tokens.",
        progress_unit="tokens", checkpoint_grain="a finished batch of prompts", measured=("speed.jsonl",),
    ),
    JobSpec(
        "layerskip.tune", TuneParams, TuneResult, pool="gpu",
        summary="Find the exit layer and draft length that pay, from one pass per prompt.",
        progress_unit="tokens", checkpoint_grain="a finished prompt; costs are measured again",
        measured=(
            "pays", "verdict", "exit_layer", "num_speculations", "predicted_speedup", "confirmed_speedup", "costs",
            "best", "ids_equal", "divergences", "tune.json", "sweep.csv", "results.json", "speedup.plotly.json",
            "predicted.plotly.json", "costs.plotly.json",
        ),
    ),
    JobSpec(
        "layerskip.bench", BenchParams, BenchResult, pool="gpu",
        summary="Time the strategies side by side: our loops, an early exit and transformers.",
        progress_unit="rounds", checkpoint_grain="none: starts again",
        measured=("rows", "costs", "environment", "results.json", "sweep.csv", "speed.plotly.json"),
    ),
]  # fmt: skip
