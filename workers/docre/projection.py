"""From pieces of translated text that carry run ids to one span per mention."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Literal, NamedTuple

from shared.relations.text import Span

Status = Literal["contiguous", "gap", "split", "recovered_by_align", "lost"]
WORD = re.compile(r"\w+")
STATUSES: tuple[Status, ...] = ("contiguous", "gap", "split", "recovered_by_align", "lost")
PAIRS = {pair[0]: pair[1] for pair in ("()", "[]", "{}", "“”", "‘’", "«»", "「」", "『』", "（）", "¿?", "¡!")}
CLOSERS = {close: open for open, close in PAIRS.items()}
STRAIGHT = "\"'"


class Piece(NamedTuple):
    """Characters [start, end) of the translation that come from these runs."""

    start: int
    end: int
    runs: frozenset[int]


class Placed(NamedTuple):
    """Where a mention stands in the translation; span None: lost."""

    span: Span | None
    status: Status


LOST = Placed(None, "lost")
NAMES_NOTHING = frozenset({"el", "la", "los", "las", "un", "una"})
"""Spanish articles: a place where only they stand is the last to be kept."""


def project(text: str, pieces: Sequence[Piece], runs: frozenset[int], max_gap_words: int) -> Placed:
    """The span of the mention that covers these runs."""
    ordered = sorted(piece for piece in pieces if piece.start < piece.end)
    groups: list[list[Piece]] = []
    last = -1
    for number, piece in enumerate(ordered):
        if not piece.runs & runs:
            continue
        gap = text[groups[-1][-1].end : piece.start] if groups else ""
        is_next = last >= 0 and last == number - 1  # no piece of other mentions lies between
        if groups and is_next and _words(gap) <= max_gap_words:
            groups[-1].append(piece)
        else:
            groups.append([piece])
        last = number
    if not groups:
        return LOST
    # Most pieces, the first on a tie; but an article that wandered off by itself is no name.
    kept = groups[0] if len(groups) == 1 else max(groups, key=lambda group: (_names_something(text, group), len(group)))
    span = Span(kept[0].start, kept[-1].end)
    if len(groups) > 1:
        return Placed(span, "split")
    gaps = (text[before.end : after.start] for before, after in pairwise(kept))
    return Placed(span, "gap" if any(map(_words, gaps)) else "contiguous")


def _names_something(text: str, group: Sequence[Piece]) -> bool:
    return any(text[piece.start : piece.end].strip().lower() not in NAMES_NOTHING for piece in group)


def _words(text: str) -> int:
    return len(WORD.findall(text)) if text and text != " " else 0


def trimmed(text: str, span: Span) -> Span:
    """Without white space and unpaired quotes or brackets at its edges; never empty if there is anything else."""
    start, end = span
    while start < end and (text[start].isspace() or _is_unpaired(text[start:end], 0)):
        start += 1
    while start < end and (text[end - 1].isspace() or _is_unpaired(text[start:end], -1)):
        end -= 1
    return Span(start, end) if start < end else span


def _is_unpaired(text: str, at: int) -> bool:
    sign = text[at]
    if len(text) < 2:
        return False
    if sign in STRAIGHT:
        return text.count(sign) % 2 == 1
    if sign in PAIRS:
        return text.count(sign) > text.count(PAIRS[sign])
    return sign in CLOSERS and text.count(sign) > text.count(CLOSERS[sign])


def snap(tokens: Sequence[Span], span: Span) -> tuple[int, int] | None:
    """Tokens [start, end) that the span touches; None where it touches none."""
    first = bisect_right(tokens, span.start, key=attrgetter("end"))
    last = bisect_left(tokens, span.end, key=attrgetter("start"))
    return (first, last) if first < last else None


def count_statuses(statuses: Iterable[Status]) -> dict[str, int]:
    """Every status with its count."""
    found: dict[str, int] = dict.fromkeys(STATUSES, 0)
    for status in statuses:
        found[status] += 1
    return found
