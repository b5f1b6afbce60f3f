"""The entry functions of LayerSkip's kinds: load inputs, run the method, write artifacts."""

from shared.jobs.catalog.layerskip import GenerateParams, GenerateResult, TrainParams, TrainResult
from shared.jobs.context import JobContext
from workers.layerskip.figures import agreement_by_exit, held_out_curves, perplexity_by_exit, schedule
from workers.layerskip.generating import Generation, about, choose
from workers.layerskip.models import decoder_of, open_model
from workers.layerskip.packing import csv_of, model_files, tar_of
from workers.layerskip.prompts import read_prompts
from workers.layerskip.sources import open_sources
from workers.layerskip.training import Training

EXIT_COLUMNS = ("exit_layer", "loss", "perplexity", "agreement", "overlap")
SCHEDULE_POINTS = 64


def train(params: TrainParams, ctx: JobContext) -> TrainResult:
    """Train, look at every exit, write the model."""
    sources = open_sources(params, ctx)
    training = Training(params, sources, ctx)
    with ctx.timed("train"):
        model = training.run()
    with ctx.timed("look"):
        sums = training.look()
    figures = sums.figures()
    with ctx.artifact("model.tar") as out:
        out.write(tar_of(model_files(model, sources.tokens)))
    result = training.result(figures, sums.tokens)
    ctx.write_text("exits.csv", csv_of(EXIT_COLUMNS, [each.model_dump() for each in figures]))
    ctx.write_json("results.json", result.model_dump(mode="json"))
    ctx.write_json("perplexity.plotly.json", perplexity_by_exit({"this model": figures}))
    ctx.write_json("agreement.plotly.json", agreement_by_exit(figures))
    steps = sorted({round(number * (params.steps - 1) / SCHEDULE_POINTS) for number in range(SCHEDULE_POINTS + 1)})
    weights = [training.exits(step) for step in steps]
    ctx.write_json("schedule.plotly.json", schedule([training.rates(step) for step in steps], weights, steps))
    if training.progress.looks:
        ctx.write_json("held-out.plotly.json", held_out_curves(training.progress.looks))
    return result


def generate(params: GenerateParams, ctx: JobContext) -> GenerateResult:
    """Decode prompts."""
    opened = open_model(params.model, ctx)
    chosen = choose(params, opened, ctx)
    generation = Generation(params, opened, read_prompts(params, opened, ctx), chosen, ctx)
    decoder = decoder_of(opened, params.dtype, ctx)
    generation.run(decoder)
    result = generation.result(generation.outputs(), None, about(decoder))
    ctx.write_json("results.json", result.model_dump(mode="json"))
    return result
