"""DocRE transfer's stop: our own documents go into Spanish, a model learns there, recommends, and edits are counted.

Where Apertium is not installed the text is copied instead, and the table says so. Train, recommend and transfer are
submitted at once: each waits `blocked` for what it reads.
"""

import shutil
from typing import Any

from services.client import Job, Tenfold
from services.local.tour import Follow, Row, Stop


def run(tenfold: Tenfold, follow: Follow) -> list[Row]:
    """Transfer both sets, train, recommend; recovery of mentions, dev F1, steps against scratch."""
    has_apertium = shutil.which("apertium") is not None
    backend = "apertium" if has_apertium else "identity"
    learnt, native = (
        tenfold.submit("docre.transfer", {"documents": f"builtin:docre-{name}", "backend": backend}, name=f"our {name}")
        for name in ("train", "native")
    )
    model = tenfold.submit(
        "docre.train", {"train": _artifact(learnt, "transferred.json"), "model": "linear"}, name="the linear model"
    )
    shown = tenfold.submit(
        "docre.recommend",
        {"model": _artifact(model, "model.tar"), "documents": _artifact(native, "transferred.json")},
        name="what an annotator sees",
    )
    jobs = follow([learnt, native, model, shown])
    transferred, _, trained, recommended = (job.result or {} for job in jobs)
    where = "English → Spanish, Apertium" if has_apertium else "copied (identity): Apertium is not installed"
    return [*_transfer_rows(where, transferred), *_model_rows(trained), *_effort_rows(recommended)]


def _artifact(job: Job, name: str) -> str:
    return f"job:{job.id}/{name}"


def _transfer_rows(where: str, result: dict[str, Any]) -> list[Row]:
    status = result["status"]
    found = (
        f"{result['mention_recovery']:.1%} of {result['mentions']} ({status['gap']} with a gap, {status['lost']} lost)"
    )
    return [Row(where, "mentions found again", found)]


def _model_rows(result: dict[str, Any]) -> list[Row]:
    ours, table = result["at_best"]["relation"]["f1"], result["baseline"]["all_pairs"]["f1"]
    return [Row("linear model", "F1 on held-out documents", f"{ours:.2f}, a table of types {table:.2f}")]


def _effort_rows(result: dict[str, Any]) -> list[Row]:
    effort = result["effort"]
    steps = f"{effort['steps']:.1f}, from scratch {effort['scratch']:.1f} ({effort['reduction']:.0%} saved)"
    return [Row("recommendations", "edit steps per native document", steps)]


STOP = Stop(
    "docre", "DocRE transfer: a relation dataset in another language, and people's edits counted", run, order=40
)
