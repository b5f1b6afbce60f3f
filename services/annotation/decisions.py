"""What a log says: each annotator's list of relations, and what it cost.

Every annotator starts from the same recommendations (or none, in a blind document) and sees only their own edits. The
final list G is what was recommended and not rejected, and what was added. Steps are |R \\ G| + |G \\ R|; actions and
seconds are counted beside them; undo takes both back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from shared.relations.documents import Label, Triple
from shared.relations.effort import EditSteps, edit_steps

ADJUDICATOR = "adjudication"
"""The annotator whose list settles what others disagree on."""
IDLE_S = 300.0
"""A longer gap between two actions is a break, and no working time."""
LISTED = ("accept", "reject", "add", "relabel", "evidence", "accept_above", "reject_below")
BULK = {"accept_above": "accepted", "reject_below": "rejected"}
Event = dict[str, Any]


class CantDo(ValueError):
    """The action doesn't fit the list; `at` is the field."""

    def __init__(self, at: str, message: str) -> None:
        super().__init__(message)
        self.at = at


@dataclass
class Entry:
    """One relation of an annotator's list."""

    recommended: bool
    decision: str  # undecided, accepted, rejected, added
    evidence: tuple[int, ...] = ()
    score: float | None = None
    p: float | None = None


@dataclass
class AnnotatorList:
    """One annotator's view of one document."""

    entries: dict[Triple, Entry] = field(default_factory=dict)
    is_complete: bool = False
    actions: int = 0
    seconds: float = 0.0

    @property
    def recommended(self) -> set[Triple]:
        return {triple for triple, entry in self.entries.items() if entry.recommended}

    @property
    def final(self) -> set[Triple]:
        return {triple for triple, entry in self.entries.items() if entry.decision != "rejected"}

    @property
    def steps(self) -> EditSteps:
        return edit_steps(self.recommended, self.final)

    def labels(self) -> tuple[Label, ...]:
        return tuple(Label(*triple, self.entries[triple].evidence) for triple in sorted(self.final))


def annotator_list(recommended: Sequence[dict[str, Any]], events: Iterable[Event], annotator: str) -> AnnotatorList:
    """The list after these events. `recommended` has {h, t, r, score, p, evidence}."""
    own = [event for event in events if event["annotator"] == annotator]
    kept = _without_undone(own)
    found = _start(recommended)
    for event in kept:
        apply(found, event)
    found.actions = sum(event["action"] in LISTED for event in kept)
    found.seconds = _seconds(own)
    return found


def _start(recommended: Sequence[dict[str, Any]]) -> AnnotatorList:
    entries = {
        Triple(each["h"], each["t"], each["r"]): Entry(
            True, "undecided", tuple(each.get("evidence") or ()), each.get("score"), each.get("p")
        )
        for each in recommended
    }
    return AnnotatorList(entries)


def _without_undone(events: Sequence[Event]) -> list[Event]:
    """Undo takes back the last action that still stands."""
    kept: list[Event] = []
    for event in events:
        if event["action"] != "undo":
            kept.append(event)
        elif kept:
            kept.pop()
    return kept


def check(found: AnnotatorList, events: Sequence[Event], event: Event) -> None:
    """Raises CantDo where the action doesn't fit what the annotator has."""
    if event["action"] == "undo":
        own = [each for each in events if each["annotator"] == event["annotator"]]
        if not _without_undone(own):
            raise CantDo("action", "there is nothing to undo")
    else:
        apply(found, event)


def apply(found: AnnotatorList, event: Event) -> None:
    """One event on a list. Raises CantDo."""
    action = event["action"]
    if action in ("complete", "reopen"):
        found.is_complete = action == "complete"
        return
    if action in BULK:
        _decide_all(found, action, event["score"])
        return
    triple = Triple(event["h"], event["t"], event["r"])
    if action == "add":
        _add(found, triple, tuple(event.get("evidence") or ()))
        return
    entry = found.entries.get(triple)
    if entry is None:
        raise CantDo("r", f"({triple.head}, {triple.tail}, {triple.relation}) is not in this annotator's list")
    if action == "accept":
        entry.decision = "accepted" if entry.recommended else "added"
    elif action == "reject":
        _reject(found, triple, entry)
    elif action == "evidence":
        entry.evidence = tuple(event.get("evidence") or ())
    elif action == "relabel":
        _relabel(found, triple, entry, event)


def _decide_all(found: AnnotatorList, action: str, score: float) -> None:
    """Every undecided recommendation scored at least, or less than, that. Raises CantDo where there is none."""
    chosen = [
        entry
        for entry in found.entries.values()
        if entry.decision == "undecided"
        and entry.score is not None
        and (entry.score >= score if action == "accept_above" else entry.score < score)
    ]
    if not chosen:
        raise CantDo("score", f"no undecided recommendation is scored {action.partition('_')[2]} {score:g}")
    for entry in chosen:
        entry.decision = BULK[action]


def _add(found: AnnotatorList, triple: Triple, evidence: tuple[int, ...]) -> None:
    entry = found.entries.get(triple)
    if entry is not None and entry.decision != "rejected":
        raise CantDo("r", f"({triple.head}, {triple.tail}, {triple.relation}) is in the list already")
    if entry is not None:  # rejected before: adding it takes that back
        entry.decision, entry.evidence = "accepted", evidence or entry.evidence
    else:
        found.entries[triple] = Entry(False, "added", evidence)


def _reject(found: AnnotatorList, triple: Triple, entry: Entry) -> None:
    if entry.recommended:
        entry.decision = "rejected"
    else:
        del found.entries[triple]


def _relabel(found: AnnotatorList, triple: Triple, entry: Entry, event: Event) -> None:
    """Another relation for the same pair: a delete and an add."""
    _add(found, Triple(triple.head, triple.tail, event["new_r"]), tuple(event.get("evidence") or entry.evidence))
    _reject(found, triple, entry)


def _seconds(events: Sequence[Event]) -> float:
    """From the first to the last action, breaks aside; what was undone took time too, but is no action."""
    times = [datetime.fromisoformat(event["at"]) for event in events]
    gaps = ((after - before).total_seconds() for before, after in pairwise(times))
    return sum(gap for gap in gaps if gap <= IDLE_S)
