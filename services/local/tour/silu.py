"""SiLU's stop: every fact found, the popular wrong claims refuted by numbers."""

from services.client import Tenfold
from services.local.tour import Follow, Row, Stop


def run(tenfold: Tenfold, follow: Follow) -> list[Row]:
    """Verify the facts and give the claims that fell."""
    (done,) = follow([tenfold.submit("silu.properties", {}, name="x·σ(x)")])
    result = done.result or {}
    worst = max(fact["error"] for fact in result["properties"])
    stated = f"{result['passed']} of {result['passed'] + result['failed']}, largest error {worst:.0e}"
    refuted = [claim for claim in result["claims"] if claim["verdict"] == "false"]
    return [Row("facts", "hold", stated), *(Row("refuted", f"“{each['claim']}”", each["evidence"]) for each in refuted)]


STOP = Stop("silu", "SiLU: what is true of x·σ(x), and what is only told", run, order=40)
