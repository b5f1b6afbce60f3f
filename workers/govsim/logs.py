"""Run logs in: the field's `log_env.json`, JSONL of such runs, and our own `runs.jsonl`.

`read_runs` is the entry point. A log whose content is wrong raises InvalidInput with file, line or record and what
would be accepted; a run that was merely interrupted is yielded as `Interrupted`: counting it would call it surviving
(alone) or collapsed (beside longer runs).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared.jobs.errors import InvalidInput
from workers.govsim.log_env import Harvested, months_of
from workers.govsim.records import CONDITION
from workers.govsim.trajectories import Conditions, Trajectories


@dataclass(frozen=True)
class Defaults:
    """What a source doesn't say."""

    source: str  # the reference, for messages
    label: str | None
    months: int  # T
    growth: int  # g
    collapse_below: int  # C


@dataclass(frozen=True)
class ImportedRun:
    """One finished run. Rows of a month hold the agents present."""

    name: str
    group: str
    conditions: Conditions
    condition: dict[str, Any]  # as `records.describe` states it
    pool: list[list[int]]  # [before, after] per month
    demanded: list[list[int]]
    granted: list[list[int]]
    utterances: list[int]  # agents' own, per month
    limit: list[int | None]  # agreed units per person, per month
    log: list[dict[str, Any]] | None = field(default=None, repr=False)  # the source's records, where it has them


@dataclass(frozen=True)
class Interrupted:
    """A run that stopped before its time."""

    name: str
    reason: str


def read_runs(path: Path, defaults: Defaults) -> Iterator[ImportedRun | Interrupted]:
    """The runs of one source, in order."""
    if _opens_with(path) == b"[":
        yield _from_log({"log": _parse(path.read_bytes(), f"{defaults.source}")}, defaults, defaults.source)
        return
    for number, line in enumerate(_lines(path), start=1):
        where = f"{defaults.source}, line {number}"
        record = _parse(line, where)
        if not isinstance(record, dict):
            raise InvalidInput(f"{where}: is no JSON object; give JSONL with a run a line, or one log_env.json array")
        if "pool" in record:
            yield _from_record(record, defaults, where)
        else:
            yield _from_log(record, defaults, where)


def count_runs(path: Path) -> int:
    """How many runs a source holds, before reading them."""
    return 1 if _opens_with(path) == b"[" else sum(1 for _ in _lines(path))


def stack(runs: list[ImportedRun]) -> Trajectories:
    """Runs of the same conditions as one batch."""
    conditions = runs[0].conditions
    batch = Trajectories.empty(np.arange(len(runs)), conditions.months, len(conditions.names))
    for row, run in enumerate(runs):
        played = len(run.pool)
        batch.played[row] = played
        batch.before[row, :played], batch.after[row, :played] = np.array(run.pool, dtype=np.int64).T
        batch.utterances[row, :played] = run.utterances
        batch.limit[row, :played] = [-1 if limit is None else limit for limit in run.limit]
        for month, (wanted, grants) in enumerate(zip(run.demanded, run.granted, strict=True)):
            batch.demanded[row, month, : len(wanted)] = wanted
            batch.granted[row, month, : len(grants)] = grants
    rule = conditions.threshold_rule
    for month in range(conditions.months):
        batch.threshold[:, month] = rule.per_agent(batch.before[:, month], month)
    return batch


def _from_log(record: dict[str, Any], defaults: Defaults, where: str) -> ImportedRun | Interrupted:
    """A run of the field's form: {run, experiment, names, max_rounds, log}, all but the log optional."""
    name = str(record.get("run", defaults.source))
    where = f"{where}, run {name}" if "run" in record else where
    log = record.get("log")
    if not isinstance(log, list):
        raise InvalidInput(f"{where}: has no `log`; give each line the run's records as `log`, an array")
    months = record.get("max_rounds", defaults.months)
    played = months_of(log, where)
    reason = _why_interrupted(played, int(months), defaults.collapse_below)
    if reason:
        return Interrupted(name, reason)
    return _finished(name, record, played, defaults, where)


def _finished(
    name: str, record: dict[str, Any], played: list[Harvested], defaults: Defaults, where: str
) -> ImportedRun:
    months = int(record.get("max_rounds", defaults.months))
    _check_end(played, months, defaults.collapse_below, where)
    agents = max(len(month.granted) for month in played)
    names = tuple(str(name) for name in record.get("names") or [f"persona_{i}" for i in range(agents)])
    if len(names) != agents:
        raise InvalidInput(f"{where}: {len(names)} `names` but {agents} agents harvest; name each agent once")
    joined = next(month for month, now in enumerate(played) if len(now.granted) == agents)
    conditions = Conditions(names, months, defaults.growth, defaults.collapse_below, joined or None)
    group = defaults.label or _group_of(record) or defaults.source
    return ImportedRun(
        name, group, conditions, _describe(record, conditions, group),
        pool=[[month.before, month.after] for month in played],
        demanded=[month.demanded for month in played],
        granted=[month.granted for month in played],
        utterances=[month.utterances for month in played],
        limit=[month.limit for month in played],
        log=record["log"],
    )  # fmt: skip


def _describe(record: dict[str, Any], conditions: Conditions, group: str) -> dict[str, Any]:
    """The condition in the form of `records.describe`, as far as a log says it."""
    harvests = [entry for entry in record["log"] if entry["action"] == "harvesting"]
    return {
        "group": group,
        "scenario": record.get("scenario"),
        "experiment": record.get("experiment"),
        "names": list(conditions.names),
        "months": conditions.months,
        "growth": conditions.growth,
        "collapse_below": conditions.collapse_below,
        "newcomer_month": conditions.newcomer_month,
        "threshold_agents": "current",
        "communication": any(entry["action"] == "utterance" for entry in record["log"]),
        "concurrent_harvesting": bool(harvests[0].get("concurrent_harvesting", True)),
    }


def _from_record(record: dict[str, Any], defaults: Defaults, where: str) -> ImportedRun:
    """A line of our own `runs.jsonl`."""
    try:
        said = record[CONDITION]
        conditions = Conditions(
            tuple(said["names"]), said["months"], said["growth"], said["collapse_below"], said["newcomer_month"],
            said["threshold_agents"] == "official",
        )  # fmt: skip
        run = ImportedRun(
            str(record["run"]), defaults.label or said["group"], conditions, said, record["pool"], record["demanded"],
            record["granted"], record["utterances"], record["limit"],
        )  # fmt: skip
        stack([run])
    except KeyError as missing:
        raise InvalidInput(f"{where}: has no {missing}; give a govsim.simulate job's runs.jsonl unchanged") from None
    except (TypeError, ValueError, IndexError, OverflowError) as wrong:
        raise InvalidInput(
            f"{where}: doesn't fit its own condition ({wrong}); give the runs.jsonl of a govsim.simulate job unchanged"
        ) from None
    return run


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


def _group_of(record: dict[str, Any]) -> str | None:
    """`experiment | model`, or `experiment | model ×4 + other` for a mixed society."""
    models: list[str] = [str(model) for model in record.get("models") or []]
    counts = {model: models.count(model) for model in models}
    society = next(iter(counts)) if len(counts) == 1 else " + ".join(
        model if count == 1 else f"{model} ×{count}" for model, count in counts.items()
    )  # fmt: skip
    parts = [part for part in (record.get("experiment"), society) if part]
    return " | ".join(parts) or None


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
