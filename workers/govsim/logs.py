"""Run logs in: the field's `log_env.json`, JSONL of such runs, and our own `runs.jsonl`.

`read_runs` is the entry point. A log whose content is wrong raises InvalidInput with file, line or record and what
would be accepted; a run that was merely interrupted is yielded as `Interrupted`: counting it would call it surviving
(alone) or collapsed (beside longer runs).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from shared.jobs.catalog.govsim import MAX_AGENTS, MAX_MONTHS
from shared.jobs.errors import InvalidInput
from workers.govsim.imported import ImportedRun, Interrupted
from workers.govsim.log_env import Harvested, months_of
from workers.govsim.records import read_line, what_is_wrong
from workers.govsim.trajectories import Conditions


@dataclass(frozen=True)
class Defaults:
    """What a source doesn't say."""

    source: str  # the reference, for messages
    label: str | None
    months: int  # T
    growth: int  # g
    collapse_below: int  # C


def read_runs(path: Path, defaults: Defaults) -> Iterator[ImportedRun | Interrupted]:
    """The runs of one source, in order."""
    if _opens_with(path) == b"[":
        yield _from_log({"log": _parse(path.read_bytes(), f"{defaults.source}")}, defaults, defaults.source)
        return
    for number, line in enumerate(_lines(path), start=1):
        where = f"{defaults.source}, line {number}"
        record = _parse(line, where)
        if not isinstance(record, dict):
            raise InvalidInput(f"{where}: is no JSON object; give JSONL, a run a line, or one log_env.json array")
        if "pool" in record:
            yield read_line(record, defaults.label, where)
        else:
            yield _from_log(record, defaults, where)


def count_runs(path: Path) -> int:
    """How many runs a source holds, before reading them."""
    return 1 if _opens_with(path) == b"[" else sum(1 for _ in _lines(path))


class LogLine(BaseModel):
    """A run of the field's form; all but the log is optional."""

    run: str | int | None = None
    experiment: str | None = None
    scenario: str | None = None
    models: list[str] | None = None
    names: Annotated[list[str], Field(min_length=1, max_length=MAX_AGENTS)] | None = None
    max_rounds: Annotated[int, Field(ge=1, le=MAX_MONTHS)] | None = None
    log: list[Any]


def _from_log(record: dict[str, Any], defaults: Defaults, where: str) -> ImportedRun | Interrupted:
    name = str(record.get("run") or defaults.source)
    where = f"{where}, run {name}" if "run" in record else where
    try:
        line = LogLine.model_validate(record)
    except ValidationError as wrong:
        form = "{run, experiment, names, max_rounds, log}"
        raise InvalidInput(f"{where}: {what_is_wrong(wrong)}; give {form} on each line") from None
    months = line.max_rounds or defaults.months
    played = months_of(line.log, where)
    reason = _why_interrupted(played, months, defaults.collapse_below)
    if reason:
        return Interrupted(name, reason)
    _check_end(played, months, defaults.collapse_below, where)
    return _finished(name, line, played, _conditions(line, played, defaults, where), defaults)


def _conditions(line: LogLine, played: list[Harvested], defaults: Defaults, where: str) -> Conditions:
    agents = max(len(month.granted) for month in played)
    if agents > MAX_AGENTS:
        raise InvalidInput(f"{where}: {agents} agents harvest; societies have at most {MAX_AGENTS}")
    names = line.names or [f"persona_{agent}" for agent in range(agents)]
    if len(names) != agents:
        raise InvalidInput(f"{where}: {len(names)} `names` but {agents} agents harvest; name each agent once")
    joined = next(month for month, now in enumerate(played) if len(now.granted) == agents)
    months = line.max_rounds or defaults.months
    return Conditions(tuple(names), months, defaults.growth, defaults.collapse_below, joined or None)


def _finished(
    name: str, line: LogLine, played: list[Harvested], conditions: Conditions, defaults: Defaults
) -> ImportedRun:
    group = defaults.label or _group_of(line) or defaults.source
    return ImportedRun(
        name, group, conditions, _describe(line, conditions, group),
        pool=[[month.before, month.after] for month in played],
        demanded=[month.demanded for month in played],
        granted=[month.granted for month in played],
        utterances=[month.utterances for month in played],
        limit=[month.limit for month in played],
        log=line.log,
    )  # fmt: skip


def _describe(line: LogLine, conditions: Conditions, group: str) -> dict[str, Any]:
    """The condition in the form of `records.describe`, as far as a log says it."""
    first_harvest = next(entry for entry in line.log if entry["action"] == "harvesting")
    return {
        "group": group,
        "scenario": line.scenario,
        "experiment": line.experiment,
        "names": list(conditions.names),
        "months": conditions.months,
        "growth": conditions.growth,
        "collapse_below": conditions.collapse_below,
        "newcomer_month": conditions.newcomer_month,
        "threshold_agents": "current",
        "communication": any(entry["action"] == "utterance" for entry in line.log),
        "models": line.models,
        "concurrent_harvesting": bool(first_harvest.get("concurrent_harvesting", True)),
    }


def _why_interrupted(played: list[Harvested], months: int, collapse_below: int) -> str | None:
    """Why a run isn't finished; None if it is."""
    remedy = "import finished runs only, or let it end and import it again"
    if not played:
        return f"holds no complete harvest; {remedy}"
    if not played[-1].is_complete:
        return f"breaks off within the harvest of month {len(played)} of {months}; {remedy}"
    if len(played) < months and played[-1].after >= collapse_below:
        return f"stops after month {len(played)} of {months} with {played[-1].after} units left; {remedy}"
    return None


def _check_end(played: list[Harvested], months: int, collapse_below: int, where: str) -> None:
    if len(played) > months:
        raise InvalidInput(f"{where}: holds {len(played)} months, planned are {months}; set `max_rounds` or months")
    for number, month in enumerate(played[:-1], start=1):
        if month.after < collapse_below:
            raise InvalidInput(
                f"{where}: goes on after month {number}, which left {month.after} units, below the collapse bound "
                f"{collapse_below}; set collapse_below to the bound this run was made with"
            )


def _group_of(line: LogLine) -> str:
    """`experiment | model`, or `experiment | model ×4 + other` for a mixed society; empty where a log says neither."""
    models = line.models or []
    counts = {model: models.count(model) for model in models}
    mixed = [model if count == 1 else f"{model} ×{count}" for model, count in counts.items()]
    society = next(iter(counts)) if len(counts) == 1 else " + ".join(mixed)
    return " | ".join(part for part in (line.experiment, society) if part)


def _opens_with(path: Path) -> bytes:
    """The first byte that isn't white space."""
    with path.open("rb") as handle:
        return handle.read(4096).lstrip()[:1]


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as handle:
        yield from (line for line in handle if line.strip())


def _parse(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as broken:
        raise InvalidInput(
            f"{where}: is not whole JSON ({broken}); it may have been cut off: export it again, or remove the run"
        ) from None
