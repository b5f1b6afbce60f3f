"""DSN's stop: a small chat model that declines to describe things of six colours, attacked by GCG and by DSN.

The demo's own cluster offers the red-team kinds for this stand-in and nothing else. A cluster that was started without
`--redteam` keeps its switch: there the stop says so and goes on.
"""

from typing import Any

from services.client import Job, Tenfold
from services.local.tour import Follow, Row, Stop

ARMS = {"no_suffix": "no suffix", "random_suffix": "random suffixes", "gcg": "GCG", "dsn": "DSN"}


def run(tenfold: Tenfold, follow: Follow) -> list[Row]:
    """Allow the stand-in, evaluate it, and give success by judge with intervals."""
    if "dsn.evaluate" not in {kind.kind for kind in tenfold.kinds()}:
        return [Row("stand-in", "skipped", "this cluster runs without --redteam")]
    tenfold.admin.allow_model("colours", "builtin:colours")
    (job,) = follow([tenfold.submit("dsn.evaluate", _params(), name="GCG and DSN, 20 steps")])
    result = job.result or {}
    rows = [
        Row("stand-in", f"{ARMS[arm]}, test prompts won", _rates(splits["test"])) for arm, splits in _asr(job).items()
    ]
    defended = {name: one["asr"]["dsn"]["rate"] for name, one in result["defences"].items()}
    rows.append(
        Row("stand-in", "DSN behind defences", ", ".join(f"{name} {rate:.2f}" for name, rate in defended.items()))
    )
    rows.append(
        Row("stand-in", "answers decoded and judged", f"{result['counts']['answers']} in {job.timings['run']:.1f} s")
    )
    return rows


def _params() -> dict[str, Any]:
    return {
        "model": "allowed:colours", "behaviours": "builtin:colours", "n_steps": 20, "test_steps": 10,
        "authorisation": {"owner": "demo", "purpose": "tour", "ticket": "none", "expires": "2999-12-31"},
        "judges": [{"name": "keyword", "type": "keyword"}, {"name": "exact", "type": "exact"},
                   {"name": "nli", "type": "nli", "model": "builtin:colours-nli"}],
        "suffix_init": "! ! ! ! ! ! ! !", "batch_size": 64, "topk": 48, "n_train": 6, "n_test": 24, "n_benign": 12,
        "eval_max_new_tokens": 32, "defences": {"smoothllm": {"copies": 3, "kind": "token"}, "erase_and_check": None},
    }  # fmt: skip


def _asr(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = (job.result or {})["asr"]
    return found


def _rates(rates: dict[str, Any]) -> str:
    """By judge, with 95 % intervals."""
    return ", ".join(
        f"{judge} {rate['rate']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]" for judge, rate in rates.items()
    )


STOP = Stop("dsn", "Refusal suppression: how well does a chat model keep refusing?", run, order=40)
