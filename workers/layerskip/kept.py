"""Models that one job makes for all: `builtin:<name>`, made once per recipe, inputs and versions.

The folder under `ctx.builtin_dir` holds the model's files, and in `kept` the artifacts, curves and result of the
training, so that a job with the same recipe gives the same bytes without training again.
"""

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path

import torch

from shared.jobs.catalog.layerskip import TrainParams, TrainResult
from shared.jobs.context import CURVES, JobContext
from shared.jobs.references import references_in

VERSION = 1  # of training: up when its numbers change


def recipe_digest(params: TrainParams, ctx: JobContext) -> str:
    """Of what decides a training's result."""
    inputs = {str(ref): ctx.input_digest(ref) for _, ref in references_in(params)}
    said = [VERSION, params.model_dump(mode="json"), inputs, torch.__version__]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def replay(params: TrainParams, ctx: JobContext) -> TrainResult | None:
    """The kept training of this very recipe: its artifacts, curves and result. None: there is none."""
    if params.keep_as is None:
        return None
    kept = ctx.builtin_dir / params.keep_as / "kept"
    if not (kept / "recipe").exists() or (kept / "recipe").read_text() != recipe_digest(params, ctx):
        return None
    ctx.log(f"builtin:{params.keep_as} of this recipe is kept on this worker: not trained again")
    for path in sorted((kept / "artifacts").iterdir()):
        with ctx.artifact(path.name) as out:
            out.write(path.read_bytes())
    for line in (kept / CURVES).read_text().splitlines():
        point = json.loads(line)
        ctx.metric(point["name"], point["step"], point["value"])
    ctx.progress(params.steps, params.steps, "steps")
    return TrainResult.model_validate_json((kept / "result.json").read_text())


def keep(
    params: TrainParams, ctx: JobContext, files: dict[str, bytes], artifacts: dict[str, bytes], result: TrainResult
) -> None:
    """Put a trained model where `builtin:<name>` finds it; it appears whole or not at all."""
    if params.keep_as is None:
        return
    fresh = ctx.builtin_dir / f".{params.keep_as}.{secrets.token_hex(4)}"
    (fresh / "kept" / "artifacts").mkdir(parents=True)
    for name, data in files.items():
        (fresh / name).write_bytes(data)
    for name, data in artifacts.items():
        (fresh / "kept" / "artifacts" / name).write_bytes(data)
    curves = ctx.journal(CURVES)
    curves.handle.flush()
    shutil.copyfile(curves.path, fresh / "kept" / CURVES)
    (fresh / "kept" / "result.json").write_text(result.model_dump_json())
    (fresh / "kept" / "recipe").write_text(recipe_digest(params, ctx))
    _take_place(fresh, ctx.builtin_dir / params.keep_as)


def _take_place(fresh: Path, target: Path) -> None:
    old = target.with_name(f"{fresh.name}.old")
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(fresh, target)
    except OSError:  # another job was faster
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
