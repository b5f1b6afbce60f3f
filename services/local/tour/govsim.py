"""GOVSIM's stop: four scripted societies on one fishery, then all of them in one analysis.

The analysis is submitted while its sources are unfinished: it waits `blocked` and starts by itself.
"""

from typing import Any

from services.client import Tenfold
from services.local.tour import Follow, Row, Stop

RUNS = 20
SOCIETIES: dict[str, Any] = {
    "greedy": {"type": "greedy"},
    "threshold": {"type": "threshold"},
    "one defector": [*[{"type": "threshold"}] * 4, {"type": "fixed", "quantity": 30}],
    "tit for tat": [*[{"type": "tit_for_tat"}] * 4, {"type": "fixed", "quantity": 12}],
}
"""Policies by society: greedy collapses in month 1, threshold sustains, one defector among four sustainers ends the
commons, tit-for-tat answers a defector by spiralling down."""
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
    analysis = tenfold.submit("govsim.analyse", {"sources": sources}, name="the four societies")
    analysed = follow([*simulations, analysis])[-1]
    return [row for group in (analysed.result or {})["groups"] for row in _rows(group)]


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


STOP = Stop("govsim", "Governance of the Commons: four societies share a fishery", run, order=10)
