"""The entry functions of LayerSkip's kinds: load inputs, run the method, write artifacts."""

import json
from collections.abc import Mapping
from functools import partial

from shared.jobs.catalog.layerskip import (
    BenchParams,
    BenchResult,
    EvalExitsParams,
    EvalExitsResult,
    GenerateParams,
    GenerateResult,
    TrainParams,
    TrainResult,
    TuneParams,
    TuneResult,
)
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from workers.layerskip import figures as draw
from workers.layerskip.exits import ExitEvaluation
from workers.layerskip.generating import Generation, about, choose
from workers.layerskip.kept import keep, replay
from workers.layerskip.models import best_device, decoder_of, dtype_of, open_model
from workers.layerskip.packing import csv_of, model_files, tar_of
from workers.layerskip.prompts import read_prompts
from workers.layerskip.sources import open_sources
from workers.layerskip.training import Training
from workers.layerskip.tune_artifacts import (
    SWEEP_COLUMNS,
    measured_figures,
    recorded_figures,
    sweep_csv,
    tune_json,
)
from workers.layerskip.tuning import Tuning

EXIT_COLUMNS = ("exit_layer", "loss", "perplexity", "agreement", "overlap")
SCHEDULE_POINTS = 64


def train(params: TrainParams, ctx: JobContext) -> TrainResult:
    """Train, look at every exit, write the model."""
    sources = open_sources(params, ctx)
    if kept := replay(params, ctx):
        return kept
    training = Training(params, sources, ctx)
    with ctx.timed("train"):
        model = training.run()
    with ctx.timed("look"):
        sums = training.look()
    result = training.result(sums.figures(), sums.tokens)
    files = model_files(model, sources.tokens)
    artifacts = _train_artifacts(params, training, result)
    artifacts["model.tar"] = tar_of(files)
    write_all(ctx, artifacts)
    keep(params, ctx, files, artifacts, result)
    return result


def _train_artifacts(params: TrainParams, training: Training, result: TrainResult) -> dict[str, bytes]:
    steps = sorted({round(number * (params.steps - 1) / SCHEDULE_POINTS) for number in range(SCHEDULE_POINTS + 1)})
    rates, weights = [training.rates(step) for step in steps], [training.exits(step) for step in steps]
    drawn = {
        "perplexity": draw.perplexity_by_exit({"this model": result.exits}),
        "agreement": draw.agreement_by_exit(result.exits),
        "schedule": draw.schedule(rates, weights, steps),
    }
    if training.progress.looks:
        drawn["held-out"] = draw.held_out_curves(training.progress.looks)
    return {
        "exits.csv": csv_of(EXIT_COLUMNS, [each.model_dump() for each in result.exits]).encode(),
        "results.json": _json(result.model_dump(mode="json")),
        **{f"{name}.plotly.json": _json(figure) for name, figure in drawn.items()},
    }


def eval_exits(params: EvalExitsParams, ctx: JobContext) -> EvalExitsResult:
    """Score every exit."""
    opened = open_model(params.model, ctx)
    evaluation = ExitEvaluation(params, opened, ctx)
    device = best_device()
    both = [opened, *([evaluation.baseline] if evaluation.baseline else [])]
    loads = [partial(each.load, dtype_of(params.dtype, device), device) for each in both]
    with ctx.timed("score"):
        sums = evaluation.run(loads)
    with ctx.timed("answer"):
        tasks = evaluation.tasks(decoder_of(opened, params.dtype, ctx)) if evaluation.lines else []
    result = evaluation.result(sums, tasks)
    arms = {"this model": result.exits} | ({"baseline": result.baseline} if result.baseline else {})
    write_all(ctx, {
        "exits.csv": csv_of(EXIT_COLUMNS, [each.model_dump() for each in result.exits]).encode(),
        "results.json": _json(result.model_dump(mode="json")),
        "perplexity.plotly.json": _json(draw.perplexity_by_exit(arms)),
        "agreement.plotly.json": _json(draw.agreement_by_exit(result.exits)),
    })  # fmt: skip
    return result


def generate(params: GenerateParams, ctx: JobContext) -> GenerateResult:
    """Decode prompts."""
    opened = open_model(params.model, ctx)
    prompts = read_prompts(params, opened, ctx)
    generation = Generation(params, opened, prompts, choose(params, opened, ctx), ctx)
    decoder = decoder_of(opened, params.dtype, ctx)
    generation.run(decoder)
    result = generation.result(about(decoder))
    ctx.write_json("results.json", result.model_dump(mode="json"))
    if params.strategy == "self_speculative":
        ctx.write_json("accepted.plotly.json", draw.accepted_lengths(generation.steps()))
    return result


def tune(params: TuneParams, ctx: JobContext) -> TuneResult:
    """Find the exit and draft length that pay."""
    opened = open_model(params.model, ctx)
    if opened.config.layers < 2:
        raise InvalidInput(f"{params.model} has one layer: there is no exit before the last to draft from")
    tuning = Tuning(params, opened, read_prompts(params, opened, ctx), ctx)
    decoder = decoder_of(opened, params.dtype, ctx)
    with ctx.timed("record"):
        tuning.run(decoder)
    with ctx.timed("measure"):
        costs = tuning.measured(decoder)
    priced = tuning.priced(costs)
    with ctx.timed("confirm"):
        confirmed = tuning.confirm(decoder, priced[: params.confirm])
    result = tuning.result(priced, confirmed, costs)
    figures = {**measured_figures(priced, confirmed, result), **recorded_figures(tuning)}
    write_all(ctx, {
        "sweep.csv": sweep_csv(tuning, priced, confirmed).encode(), "tune.json": _json(tune_json(result)),
        "results.json": _json(result.model_dump(mode="json")),
        **{name: _json(figure) for name, figure in figures.items()},
    })  # fmt: skip
    return result


def bench(params: BenchParams, ctx: JobContext) -> BenchResult:
    """Time the strategies side by side."""
    from workers.layerskip.benching import Benchmark

    opened = open_model(params.model, ctx)
    benchmark = Benchmark(params, opened, read_prompts(params, opened, ctx), ctx)
    result = benchmark.run(decoder_of(opened, params.dtype, ctx))
    ctx.write_json("results.json", result.model_dump(mode="json"))
    ctx.write_text("sweep.csv", csv_of(SWEEP_COLUMNS, [_bench_line(row.model_dump()) for row in result.rows]))
    names = [f"{row.strategy} {_place(row.exit_layer, row.num_speculations)}".strip() for row in result.rows]
    times = [row.time_per_token_ms for row in result.rows]
    ctx.write_json("speed.plotly.json", draw.bars(names, times, "Time per token", "ms"))
    return result


def _bench_line(row: dict[str, object]) -> dict[str, object]:
    return row | {
        "acceptance_rate": row["acceptance_macro"], "time_per_token": row["time_per_token_ms"],
        "measured_speedup": row["speedup"],
    }  # fmt: skip


def _place(exit_layer: int | None, drafts: int | None) -> str:
    return " ".join(f"{name}{value}" for name, value in (("E", exit_layer), ("K", drafts)) if value is not None)


def write_all(ctx: JobContext, artifacts: Mapping[str, bytes]) -> None:
    """Artifacts by name."""
    for name, data in sorted(artifacts.items()):
        with ctx.artifact(name) as out:
            out.write(data)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
