"""What a job says in the end: statistics, as many runs as its result may hold, and `summary.csv`."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from shared.jobs.catalog.govsim import Metrics, RunOutcome, Statistic
from shared.jobs.context import JobContext
from workers.govsim.tally import Tally

FIRST_RUNS = 40  # runs shown in a result, at most
RESULT_BYTES = 64 * 1024 - 512  # the contract's bound, less the result's own frame

Outcome = TypeVar("Outcome", bound=RunOutcome)


def statistics(tally: Tally) -> dict[str, Statistic]:
    """The fields of `Metrics`."""
    summaries = tally.summaries()
    return {name: Statistic(**summaries[name]._asdict()) for name in Metrics.model_fields}


def bytes_of(value: Any) -> int:
    """Bytes of a value as JSON in its roomiest common form (with spaces, non-ASCII escaped)."""
    return len(json.dumps(value)) + 2  # and the comma after it


def first_outcomes(journal: Path, model: type[Outcome], room: int) -> list[Outcome]:
    """As many of the first 40 runs of a `runs.jsonl` as fit into so many bytes."""
    kept: list[Outcome] = []
    for line in islice(_json_lines(journal), FIRST_RUNS):
        outcome = {name: line[name] for name in model.model_fields if name in line}
        room -= bytes_of(outcome)
        if room < 0:
            break
        kept.append(model(**outcome))
    return kept


def write_summary(ctx: JobContext, tallies: Mapping[str, Tally]) -> None:
    """`summary.csv`: a line per group and metric."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["group", "runs", "metric", *Statistic.model_fields])
    for group, tally in tallies.items():
        for name, statistic in statistics(tally).items():
            table.writerow([group, tally.runs, name, *statistic.model_dump().values()])
    ctx.write_text("summary.csv", text.getvalue())


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open("rb") as handle:
            yield from map(json.loads, handle)
