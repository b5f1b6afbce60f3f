"""The entry functions of SiLU's kinds: load inputs, run the method, write artifacts."""

import json

from shared.jobs.catalog.silu import (
    SEEDS_FOR_SIGNIFICANCE,
    CompareParams,
    CompareResult,
    Fact,
    PropertiesParams,
    PropertiesResult,
    SwigluParams,
    SwigluResult,
)
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput


def properties(params: PropertiesParams, ctx: JobContext) -> PropertiesResult:
    """Find every fact."""
    from workers.silu.claims import claims
    from workers.silu.facts import facts
    from workers.silu.figures import curves

    found = []
    stated = list(facts(params.beta))
    for number, fact in enumerate(stated, start=1):
        error = abs(fact.found - fact.expected)
        found.append(Fact(name=fact.name, expected=fact.expected, found=fact.found, error=error,
                          passed=error <= params.tolerance))  # fmt: skip
        ctx.progress(number, len(stated), "facts")
    result = PropertiesResult(
        properties=found, passed=sum(fact.passed for fact in found), failed=sum(not fact.passed for fact in found),
        claims=claims(params.beta),
    )  # fmt: skip
    ctx.write_json("results.json", result.model_dump(mode="json"))
    ctx.write_json("curves.plotly.json", curves(params.beta, params.points))
    return result


def compare(params: CompareParams, ctx: JobContext) -> CompareResult:
    """Train the paired networks and say what the numbers say."""
    from workers.silu.conclusions import Conclusions, verdicts
    from workers.silu.figures import cost_bars, differences, noise, validation_loss
    from workers.silu.study import Study
    from workers.silu.timing import activation_costs

    study = Study(params, ctx)
    with ctx.timed("train"):
        trained = study.run()
    conclusions = Conclusions(params, [data.name for data in study.data], study.arms, trained)
    tables = conclusions.tables()
    warnings = []
    if params.seeds < SEEDS_FOR_SIGNIFICANCE:
        warnings.append(
            f"{params.seeds} seeds are too few to call a difference significant; give {SEEDS_FOR_SIGNIFICANCE} or more"
        )
    with ctx.timed("cost"):
        costs = activation_costs(params.activations, params.cost_elements)
    result = CompareResult(
        baseline=conclusions.baseline, seeds=params.seeds, table=tables.cells, convergence=tables.convergence,
        robustness=tables.robustness, cost=costs, verdict=verdicts(params, conclusions.baseline, tables),
        warnings=warnings,
    )  # fmt: skip
    for number, data in enumerate(study.data):
        suffix = "" if len(study.data) == 1 else f"-{number}"
        ctx.write_json(f"loss{suffix}.plotly.json", {**validation_loss(conclusions, number), "name": data.name})
    ctx.write_json("noise.plotly.json", noise(tables.robustness, tables.cells))
    ctx.write_json("differences.plotly.json", differences(conclusions))
    if costs:
        ctx.write_json("cost.plotly.json", cost_bars(costs))
    ctx.write_json("results.json", result.model_dump(mode="json"))
    return result


def swiglu(params: SwigluParams, ctx: JobContext) -> SwigluResult:
    """Time the SwiGLU core."""
    import torch

    from shared.models.swiglu_choice import Case, available, fastest
    from workers.silu.figures import core_times, roofline
    from workers.silu.timing import TYPES, copy_bandwidth, shape_rows

    device = "cuda" if torch.cuda.is_available() else "cpu"
    can, skipped = available(device, TYPES[params.dtype]), []
    if params.impl != "auto" and params.impl not in can:
        raise InvalidInput(
            f"impl {params.impl} can't run {params.dtype} on this worker ({device}); it has {', '.join(can)}"
        )
    if "triton" not in can:
        skipped.append("triton: needs CUDA and the package triton")
    if "compile" not in can:
        skipped.append("compile: needs a C++ compiler")
    if "native" not in can:
        skipped.append("native: needs a C++ compiler, the CPU, and fp32 or bf16")
    shapes = _shapes_of(params, ctx) if params.model else list(params.shapes)
    rows, auto = [], {}
    for number, shape in enumerate(shapes, start=1):
        with ctx.timed("shape"):
            rows += shape_rows(params, shape, device)
            auto[f"{shape[0]}x{shape[1]}"] = fastest(Case(shape, TYPES[params.dtype], device, True))
        ctx.progress(number, len(shapes), "shapes")
    result = SwigluResult(rows=rows, auto=auto, copy_gb_per_s=copy_bandwidth(device), skipped=skipped)
    ctx.write_json("time.plotly.json", core_times(rows))
    ctx.write_json("roofline.plotly.json", roofline(rows, result.copy_gb_per_s))
    ctx.write_json("results.json", result.model_dump(mode="json"))
    return result


def _shapes_of(params: SwigluParams, ctx: JobContext) -> list[tuple[int, int]]:
    """1, 64 and 2,048 tokens at a model's d_ff. Raises InvalidInput."""
    from shared.llm.model_folder import model_folder
    from shared.models.llama_checkpoint import read_config

    assert params.model is not None
    try:
        config = read_config(model_folder(params.model, ctx, ctx.cache_dir / "models").path)
    except (ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InvalidInput(f"{params.model} is no Llama checkpoint: {error}") from None
    return [(tokens, config.intermediate_size) for tokens in (1, 64, 2048)]
