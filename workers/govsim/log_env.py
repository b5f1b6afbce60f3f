"""`log_env.json`, the field's own log of one run: an array of records, one per harvest, utterance, summary and limit.

`months_of` reads it, `records_of` and `write_tar` write it, so that notebooks made for the official logs open ours.
Absent keys are null; numbers may be floats that hold whole numbers.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from shared.jobs.catalog.govsim import MAX_CAPACITY
from shared.jobs.errors import InvalidInput
from workers.govsim.imported import ImportedRun
from workers.govsim.talk import FRAMEWORK, MODERATOR, Talk

KEYS = (
    "agent_id", "round", "action", "resource_in_pool_before_harvesting", "resource_in_pool_after_harvesting",
    "concurrent_harvesting", "resource_collected", "wanted_resource", "agent_name", "utterance", "resource_limit",
    "html_interactions",
)  # fmt: skip
EVERY_RECORD = ("agent_id", "round", "action")
EVERY_HARVEST = (
    "resource_in_pool_before_harvesting", "resource_in_pool_after_harvesting", "resource_collected", "wanted_resource",
)  # fmt: skip
MAX_RECORDS = 200_000  # about 60 MB of log_env.tar; runs beyond it are in runs.jsonl
MAX_UNITS = 10**12  # above any demand; keeps sums inside 64 bits


@dataclass
class Harvested:
    """One month as a log tells it."""

    before: int
    after: int
    granted: list[int] = field(default_factory=list)  # per agent present
    demanded: list[int] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    utterances: int = 0
    limit: int | None = None
    is_complete: bool = True  # False: some agent's harvest is missing, which only the last month may lack


def months_of(log: list[Any], where: str) -> list[Harvested]:
    """The months of a log in order. Raises InvalidInput with the record that is wrong."""
    months: list[Harvested] = []
    for number, record in enumerate(log, start=1):
        _add(months, record, f"{where}, record {number}")
    _check_agents(months, where)
    for number, month in enumerate(months, start=1):
        _check_sums(month, f"{where}, month {number}")
    return months


def _add(months: list[Harvested], record: Any, where: str) -> None:
    _require(record, EVERY_RECORD, where)
    index = _whole(record, "round", where)
    if record["action"] == "harvesting":
        _require(record, EVERY_HARVEST, where)
        _add_harvest(months, index, record, where)
    elif index >= len(months):
        raise InvalidInput(f"{where}: speaks in round {index} before its harvest; keep records in the order of the run")
    elif record["action"] == "utterance":
        months[index].utterances += record["agent_id"] != FRAMEWORK
    elif record["action"] == "conversation_resource_limit" and record.get("resource_limit") is not None:
        months[index].limit = _whole(record, "resource_limit", where)


def _add_harvest(months: list[Harvested], index: int, record: dict[str, Any], where: str) -> None:
    before, after, granted = (_whole(record, key, where, MAX_CAPACITY) for key in EVERY_HARVEST[:3])
    demanded = _whole(record, EVERY_HARVEST[3], where)
    if index == len(months):
        months.append(Harvested(before, after))
    if index != len(months) - 1:
        raise InvalidInput(f"{where}: round {index} follows round {len(months) - 1}; rounds count from 0 without a gap")
    month = months[index]
    if (before, after) != (month.before, month.after):
        raise InvalidInput(
            f"{where}: stock {before} → {after} but the same round says {month.before} → {month.after}; "
            "every harvest of a round states the round's stock before and after"
        )
    if record["agent_id"] in month.agents:
        raise InvalidInput(f"{where}: {record['agent_id']} harvests twice in round {index}; keep one record per agent")
    month.agents.append(record["agent_id"])
    month.granted.append(granted)
    month.demanded.append(demanded)


def _check_agents(months: list[Harvested], where: str) -> None:
    """The agents of a month are those of the month before, in any order, and newcomers; put them in one order."""
    order: list[str] = []
    for number, month in enumerate(months, start=1):
        missing = [agent for agent in order if agent not in month.agents]
        month.is_complete = not missing
        if missing and number < len(months):
            absent = ", ".join(missing)
            raise InvalidInput(f"{where}, month {number}: no harvest of {absent}; the log needs every agent's")
        order += [agent for agent in month.agents if agent not in order]
        places = sorted(range(len(month.agents)), key=lambda place: order.index(month.agents[place]))
        month.granted = [month.granted[place] for place in places]
        month.demanded = [month.demanded[place] for place in places]
        month.agents = [month.agents[place] for place in places]


def _check_sums(month: Harvested, where: str) -> None:
    taken = month.before - month.after
    if month.is_complete and sum(month.granted) != taken:
        raise InvalidInput(
            f"{where}: agents collected {sum(month.granted)} units but the stock fell by {taken}; "
            "the log was changed or is incomplete: export it again"
        )


def _require(record: Any, keys: Iterable[str], where: str) -> None:
    if not isinstance(record, dict):
        raise InvalidInput(f"{where}: is no JSON object; a log is an array of records")
    missing = [key for key in keys if record.get(key) is None]
    if missing:
        absent = ", ".join(f"`{key}`" for key in missing)
        raise InvalidInput(f"{where}: has no {absent}; export the log again with all keys")


def _whole(record: dict[str, Any], key: str, where: str, most: int = MAX_UNITS) -> int:
    value = record[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= most or value != int(value):
        raise InvalidInput(f"{where}: `{key}` is {value!r}; it must be a whole number from 0 to {most}")
    return int(value)


def records_of(run: ImportedRun) -> list[dict[str, Any]]:
    """A run as log_env records: the source's own with every key, or made from a scripted run."""
    if run.log is not None:
        return [{key: record.get(key) for key in KEYS} for record in run.log]
    return [record for month in range(len(run.pool)) for record in _month_records(run, month)]


def write_tar(out: BinaryIO, runs: Iterable[ImportedRun]) -> int:
    """One `<number>-<run>/log_env.json` per run, as far as MAX_RECORDS goes; returns how many runs that were."""
    written = records = 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for run in runs:
            entries = records_of(run)
            records += len(entries)
            if records > MAX_RECORDS:
                break
            _add_member(tar, f"{written:05d}-{_safe(run.name)}/log_env.json", entries)
            written += 1
    return written


def _add_member(tar: tarfile.TarFile, name: str, entries: list[dict[str, Any]]) -> None:
    data = json.dumps(entries, ensure_ascii=False, allow_nan=False).encode()
    member = tarfile.TarInfo(name)  # time, owner and mode stay at their fixed defaults: same bytes every time
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80] or "run"


def _month_records(run: ImportedRun, month: int) -> list[dict[str, Any]]:
    said = run.condition
    harvests = harvest_records(run, month)
    if (
        not said["communication"] or "report" not in said or any(said.get("models", ()))
    ):  # imported societies' words aren't in their runs.jsonl
        return harvests
    talk = Talk(said["scenario"], True, said["report"], said["max_conversation_steps"])
    return [*harvests, *_talk_records(run, month, talk)]


def harvest_records(run: ImportedRun, month: int) -> list[dict[str, Any]]:
    """A month's harvest, a record per agent present."""
    before, after = run.pool[month]
    return [
        record_of(
            f"persona_{agent}", month, "harvesting",
            resource_in_pool_before_harvesting=before,
            resource_in_pool_after_harvesting=after,
            concurrent_harvesting=run.condition["concurrent_harvesting"],
            resource_collected=granted,
            wanted_resource=demanded,
        )
        for agent, (granted, demanded) in enumerate(zip(run.granted[month], run.demanded[month], strict=True))
    ]  # fmt: skip


def _talk_records(run: ImportedRun, month: int, talk: Talk) -> list[dict[str, Any]]:
    """Report, one sentence per speaker, summary and limit; all of them carry the limit, as the official logs do."""
    names, granted, limit = run.condition["names"], run.granted[month], run.limit[month] or 0
    said: list[tuple[str, str, str, str | None]] = []
    if talk.report == "moderator":
        said.append((FRAMEWORK, "utterance", MODERATOR, talk.report_sentence(names[: len(granted)], granted)))
    said += [
        (f"persona_{agent}", "utterance", names[agent], talk.sentence(names[agent], granted[agent], limit))
        for agent in range(talk.speakers(len(granted)))
    ]
    said.append((FRAMEWORK, "conversation_summary", FRAMEWORK, talk.summary(limit)))
    said.append((FRAMEWORK, "conversation_resource_limit", FRAMEWORK, None))
    return [
        record_of(who, month, action, agent_name=name, utterance=text, resource_limit=limit)
        for who, action, name, text in said
    ]


def record_of(agent_id: str, month: int, action: str, **values: Any) -> dict[str, Any]:
    """All keys, absent ones null."""
    given = {"agent_id": agent_id, "round": month, "action": action, **values}
    return {key: given.get(key) for key in KEYS}
