"""Which runs failed silently: the official pipeline turns a missing or unreadable reply into a demand of 0.

That looks like restraint: of the published runs, one "survived" twelve months without a single reply. `failure_rates`
finds such runs.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from shared.jobs.errors import InvalidInput

MARKER = re.compile(r"Answer:|So, the answer is:|\*\*Answer\*\*:")
KEYS = ("run", "month", "agent", "reply")


def is_readable(reply: str | None) -> bool:
    """Whether a demand can be read off a reply: an answer marker with a number somewhere behind it."""
    marker = MARKER.search(reply or "")
    return marker is not None and re.search(r"\d", (reply or "")[marker.end() :]) is not None


def read_replies(path: Path, source: str) -> dict[str, dict[tuple[int, str], bool]]:
    """Run → (month from 1, agent) → whether the reply is readable."""
    replies: dict[str, dict[tuple[int, str], bool]] = {}
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                run, key, readable = _parse(line, f"{source}, line {number}")
                replies.setdefault(run, {})[key] = readable
    return replies


def failure_rate(readable: dict[tuple[int, str], bool], actions: int) -> float:
    """Share of a run's harvest actions without a readable reply; an action with no reply line counts as failed."""
    return 1 - min(actions, sum(readable.values())) / actions


def _parse(line: bytes, where: str) -> tuple[str, tuple[int, str], bool]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as broken:
        raise InvalidInput(f"{where}: is not whole JSON ({broken}); give one JSON object a line") from None
    missing = _missing(record, KEYS)
    if missing:
        raise InvalidInput(f"{where}: has no {', '.join(missing)}; give {{run, month, agent, reply}} on each line")
    reply = record["reply"]
    if not isinstance(record["month"], int) or not isinstance(reply, str | None):
        raise InvalidInput(f"{where}: month must be a whole number and reply text or null")
    return str(record["run"]), (record["month"], str(record["agent"])), is_readable(reply)


def _missing(record: object, keys: Iterable[str]) -> list[str]:
    return [f"`{key}`" for key in keys if not isinstance(record, dict) or key not in record]
