"""The small models that LayerSkip's benches and slow tests share: trained once, kept under `.tenfold/bench`.

Eight layers of width 128 on bytes, 400 steps, a minute and a half each on one core: with the recipe and without, on
Python's standard library (greedy text loops) and on SNIPS as a stream of prompt, tab, response, newline (it doesn't).
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from shared.jobs.catalog.layerskip import TrainParams, TrainResult
from shared.jobs.local import LocalContext
from workers.layerskip.jobs import train

HERE = Path(__file__).parents[2]
KEPT = Path(os.environ.get("TENFOLD_DATA") or HERE / ".tenfold") / "bench"
SNIPS = "file:" + "5" * 64
ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"preset": "short", "p_max": 0.0, "e_scale": 0.0},
    "paper": {"preset": "short", "e_scale": 0.2},
    "short": {"preset": "short"},
    "trl": {"preset": "trl"},
}
"""Training without the recipe; with e_scale 0.2, the paper's from scratch; with 1, of short runs; TRL's."""
Text = Literal["python", "snips"]


class Kept(NamedTuple):
    """A trained model: `builtin:<name>` of a context whose cache is `KEPT`."""

    ref: str
    folder: Path
    result: TrainResult


def real_folder() -> Path | None:
    """SNIPS and Shakespeare, where this machine has them."""
    root = Path(os.environ.get("TENFOLD_REAL_DATA") or HERE.parent / "shared" / "data")
    return root / "layerskip" if (root / "layerskip").is_dir() else None


def snips_prompts(count: int) -> list[str]:
    """Queries of SNIPS' test part, evenly spread, each with the tab that its answer follows."""
    real = real_folder()
    assert real is not None
    lines = [json.loads(line)["prompt"] for line in (real / "snips_parse_test.jsonl").read_text().splitlines()]
    return [f"{prompt}\t" for prompt in lines[:: max(1, len(lines) // count)][:count]]


def trained(text: Text, arm: str, seed: int = 0, steps: int = 400) -> Kept:
    """The kept model of an arm and seed, trained now if it isn't there."""
    inputs, given = {}, {"text": "builtin:stdlib"}
    if text == "snips":
        real = real_folder()
        assert real is not None
        inputs, given = {SNIPS: real / "snips_parse_train.jsonl"}, {"data": SNIPS, "loss_on": "all"}
    name = f"recipe-{text}-{arm}-{seed}" + ("" if steps == 400 else f"-{steps}")
    params = TrainParams.model_validate({**ARMS[arm], **given, "keep_as": name, "seed": seed, "steps": steps})
    with tempfile.TemporaryDirectory() as folder:
        ctx = LocalContext(folder, inputs, cache=KEPT)
        result = train(params, ctx)
        ctx.close()
        return Kept(f"builtin:{name}", ctx.builtin_dir / name, result)
