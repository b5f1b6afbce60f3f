"""LayerSkip's stop: a model trained to exit early decodes plainly and by speculating on itself; then it is tuned.

The first tour trains the model, a minute and a half, and the worker keeps it as `builtin:stdlib-lm`; later ones find it
there. Everything is submitted at once: what needs the model waits `blocked`.
"""

from typing import Any

from services.client import Job, Tenfold
from services.local.tour import Follow, Row, Stop

TRAINING = {"text": "builtin:stdlib", "preset": "trl", "keep_as": "stdlib-lm", "seed": 0}
PROMPTS = ["def __init__(self, name):\n        self.", "import sys\nimport os\n\n", "    if not isinstance("]
NEW = 96


def run(tenfold: Tenfold, follow: Follow) -> list[Row]:
    """Train (or find) the model, decode both ways, tune, and give what was measured."""
    trained = tenfold.submit("layerskip.train", TRAINING, name="builtin:stdlib-lm")
    given: dict[str, Any] = {"model": f"job:{trained.id}/model.tar", "prompts": PROMPTS, "max_new_tokens": NEW}
    both = [
        tenfold.submit("layerskip.generate", given | {"strategy": strategy}, name=strategy.replace("_", " "))
        for strategy in ("autoregressive", "self_speculative")
    ]
    tuning = tenfold.submit("layerskip.tune", given | {"repeats": 2}, name="which exit, how many drafts")
    model, plain, speculative, tuned = follow([trained, *both, tuning])
    return [_exits(model), *_decoded(plain, speculative), *_tuned(tuned)]


def _exits(job: Job) -> Row:
    exits = (job.result or {})["exits"]
    second = exits[1]["agreement"]
    return Row("stdlib-lm", "exit 2 says what the last layer says", f"{100 * second:.0f} % of held-out bytes")


def _decoded(plain: Job, speculative: Job) -> list[Row]:
    ours, theirs = (job.result or {} for job in (speculative, plain))
    equal = sum(
        one["token_ids"] == other["token_ids"] for one, other in zip(ours["outputs"], theirs["outputs"], strict=True)
    )
    speed = plain.timings["decode"] / speculative.timings["decode"]
    return [
        Row("self-speculation", "outputs equal to plain decoding", f"{equal} of {ours['outputs_total']}"),
        Row("self-speculation", "drafts accepted", f"{100 * (ours['acceptance_micro'] or 0):.0f} %"),
        Row("self-speculation", "against plain decoding", f"{speed:.2f}×"),
    ]


def _tuned(job: Job) -> list[Row]:
    result = job.result or {}
    return [
        Row("tuning", "verdict", result["verdict"]),
        Row("tuning", "simulated counts equal real ones", "yes" if result["counts_equal"] else "no"),
    ]


STOP = Stop("layerskip", "LayerSkip: decoding that drafts with its own first layers", run, order=30)
