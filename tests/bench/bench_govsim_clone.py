"""A clone of real decisions in societies of its own: how long they last, beside the runs it learnt from.

    ./tenfold bench govsim_clone [--quick]

Trains a small decoder on the decisions of weak models (GPT-4o-mini, Llama-2, Llama-3-8B, Mistral-7B, Qwen2.5-7B),
then plays societies of it through the local back end at temperature 1 without communication, 200 runs per condition.
It needs the real decisions: `$TENFOLD_REAL_DATA/govsim`, or `../shared/data/govsim` beside the repository.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shared.jobs.catalog.govsim import Metrics, SimulateParams, Statistic, TrainCloneParams, TrainCloneResult
from shared.jobs.local import LocalContext
from workers.govsim.jobs import simulate, train_clone

WEAK_MODELS = [
    "gpt-4o-mini", "gpt-4o-mini-2024-07-18", "meta-llama/Llama-2-7b-chat-hf", "meta-llama/Llama-2-13b-chat-hf",
    "meta-llama/Meta-Llama-3-8B-Instruct", "mistralai/Mistral-7B-Instruct-v0.2", "Qwen/Qwen2.5-7B-Instruct",
]  # fmt: skip
REPLIES, CLONE = "file:" + "a" * 64, "file:" + "b" * 64
CONDITIONS = {"default": False, "universalization": True}
MOST_MONTHS_BY_DEFAULT, LEAST_MONTHS_WITH_UNIVERSALIZATION = 1.5, 4.0  # expected of the clone


def real_data() -> Path | None:
    """The folder of real runs, where there is one."""
    root = Path(os.environ.get("TENFOLD_REAL_DATA") or Path(__file__).parents[3] / "shared" / "data")
    return root / "govsim" if (root / "govsim").is_dir() else None


def train(folder: Path, replies: Path, **params: Any) -> TrainCloneResult:
    """Train a clone; it lies in the folder as model.tar."""
    ctx = LocalContext(folder, inputs={REPLIES: replies})
    result = train_clone(TrainCloneParams(replies=REPLIES, models=WEAK_MODELS, **params), ctx)
    ctx.close()
    return result


def play(folder: Path, clone: Path, universalization: bool, runs: int) -> Metrics:
    """Societies of a clone, without communication."""
    ctx = LocalContext(folder, inputs={CLONE: clone})
    params = SimulateParams(
        policies={"type": "llm", "model": CLONE}, communication=False, universalization=universalization, runs=runs,
        temperature=1.0, max_tokens=16,
    )  # fmt: skip
    result = simulate(params, ctx)
    ctx.close()
    return result


def real_survival(data: Path) -> dict[str, float]:
    """Mean survival time, months, of the runs that the clone learnt from, by condition."""
    decisions = [json.loads(line) for line in (data / "harvest_replies.jsonl").read_text().splitlines()]
    chosen = {one["run"] for one in decisions if one["model"] in WEAK_MODELS and one["reply"]}
    mixed = {one["run"] for one in decisions if one["model"] not in WEAK_MODELS}
    runs = [json.loads(line) for line in (data / "runs.jsonl").read_text().splitlines()]
    months: dict[str, list[int]] = {name: [] for name in CONDITIONS}
    for run in runs:
        if run["run"] in chosen - mixed:
            months["universalization" if run["universalization"] else "default"].append(_survived(run["log"]))
    return {name: sum(lasted) / len(lasted) for name, lasted in months.items()}


def _survived(log: Iterable[dict[str, Any]]) -> int:
    return 1 + max(record["round"] for record in log if record["action"] == "harvesting")


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The table: what, ours, peer (the real runs), unit, ratio (to what is expected), spread, goal."""
    data = real_data()
    if data is None:
        return [{"what": "clone of real decisions", "spread": "skipped: no files under $TENFOLD_REAL_DATA/govsim"}]
    real = real_survival(data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder / "clone", data / "harvest_replies.jsonl")
        table = []
        for condition, universalization in CONDITIONS.items():
            result = play(folder / condition, folder / "clone" / "model.tar", universalization, 40 if quick else 200)
            table.append(_row(condition, result, real[condition]))
        return table


def _row(condition: str, result: Metrics, real: float) -> dict[str, Any]:
    months: Statistic = result.survival_time
    assert months.mean is not None
    assert months.ci95 is not None
    rate, gain = result.survival_rate.mean, result.gain.mean
    expected, ratio = expectation(condition, months.mean)
    return {
        "what": f"months a clone's societies last, {condition} (expected {expected})", "ours": round(months.mean, 2),
        "peer": round(real, 2), "peer_name": "the real runs it learnt from", "unit": "months", "ratio": round(ratio, 2),
        "spread": f"± {months.ci95:.2f} (95 %), survival rate {rate:.3f}, gain {gain:.1f}", "goal": 1.0,
    }  # fmt: skip


def expectation(condition: str, months: float) -> tuple[str, float]:
    """What is expected of a condition's mean survival time, and by what factor it is met."""
    if condition == "default":
        return f"at most {MOST_MONTHS_BY_DEFAULT}", MOST_MONTHS_BY_DEFAULT / months
    return f"at least {LEAST_MONTHS_WITH_UNIVERSALIZATION}", months / LEAST_MONTHS_WITH_UNIVERSALIZATION


if __name__ == "__main__":
    print(json.dumps(rows("--quick" in sys.argv), indent=1, ensure_ascii=False))
