"""GOVSIM's stop: five scripted societies on one fishery, then all of them in one analysis.

The analysis is submitted while its sources are unfinished: it waits `blocked` and starts by itself. Where real
decisions lie under $TENFOLD_REAL_DATA/govsim, a clone of them is trained, too, and its societies are measured with and
without universalization: a real local model, in a quarter of a minute on one idle core.
"""

import os
from pathlib import Path
from typing import Any

from services.client import Job, Tenfold
from services.local.tour import Follow, Row, Stop

RUNS = 20
SOCIETIES: dict[str, Any] = {
    "greedy": {"type": "greedy"},
    "threshold": {"type": "threshold"},
    "one defector": [*[{"type": "threshold"}] * 4, {"type": "fixed", "quantity": 30}],
    "agreement": {"type": "replay", "demands": [15, 5]},
    "tit for tat": [*[{"type": "tit_for_tat"}] * 4, {"type": "fixed", "quantity": 12}],
}
"""Policies by society: greedy collapses in month 1, threshold sustains, one defector among four sustainers ends the
commons, a society that took too much once and then keeps to the share (5 each of the 50 tons it has left) lasts, and
tit-for-tat answers a defector by spiralling down."""
DECISIONS = Path("govsim", "harvest_replies.jsonl")
CLONE_RUNS = 20
ROUNDING = 1e-12
"""Half-widths below this share of the mean are the last bits of a sum, not a spread."""
MEASURES = {"survival_time": "survival time, months", "gain": "gain, units per agent", "equality": "equality"}


def run(tenfold: Tenfold, follow: Follow) -> list[Row]:
    """Simulate the societies, analyse them together, and give the survival, gain and equality of each."""
    simulations = [
        tenfold.submit("govsim.simulate", {"policies": policies, "runs": RUNS}, name=society)
        for society, policies in SOCIETIES.items()
    ]
    sources = [f"job:{job.id}" for job in simulations]
    analysis = tenfold.submit("govsim.analyse", {"sources": sources}, name="the five societies")
    clones = _submit_clones(tenfold)
    followed = follow([*simulations, analysis, *clones])
    analysed, clone_societies = followed[len(simulations)], followed[len(simulations) + 2 :]
    rows = [row for group in (analysed.result or {})["groups"] for row in _rows(group)]
    return rows + [row for job in clone_societies for row in _rows({**(job.result or {}), "group": f" | {job.name}"})]


def _submit_clones(tenfold: Tenfold) -> list[Job]:
    """The training of a clone and its societies by condition; none where there is nothing to learn from."""
    root = os.environ.get("TENFOLD_REAL_DATA")
    if not root or not (Path(root) / DECISIONS).is_file():
        return []
    replies = tenfold.upload(Path(root) / DECISIONS).ref
    training = tenfold.submit("govsim.train_clone", {"replies": replies}, name="a clone of real decisions")
    clone = {"type": "llm", "model": f"job:{training.id}/model.tar"}
    common = {"policies": clone, "communication": False, "temperature": 1, "max_tokens": 16, "runs": CLONE_RUNS}
    societies = [
        tenfold.submit("govsim.simulate", {**common, "universalization": told}, name=name)
        for name, told in (("clone", False), ("clone, universalization", True))
    ]
    return [training, *societies]


def _rows(group: dict[str, Any]) -> list[Row]:
    society = group["group"].split(" | ")[1]  # "fishery default | threshold ×4 + fixed 30"
    return [Row(society, words, _value(group[measure])) for measure, words in MEASURES.items()]


def _value(metric: dict[str, float | None]) -> str:
    """Mean over the runs and the half-width of its 95 % interval."""
    mean, half = metric["mean"], metric.get("ci95")
    if mean is None:
        return "undefined"
    if half is None:
        return f"{mean:.3g}"
    return f"{mean:.3g} ± {0 if half < ROUNDING * abs(mean) else half:.2g}"


STOP = Stop("govsim", "Governance of the Commons: five societies share a fishery", run, order=10)
