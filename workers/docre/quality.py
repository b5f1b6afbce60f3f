"""What is wrong with a transferred sentence, mention or document, and whether the document is accepted."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from shared.relations.documents import Document

WORD = re.compile(r"\w+")
WORD_RATIO = (0.4, 2.5)  # target words per source word
CHARACTER_RATIO = (0.15, 1.5)  # target characters per source character, unspaced scripts
MIN_WORDS_IDENTICAL = 4
LONGER_THAN = 3  # times the source's tokens
SENTENCE_FLAGS = ("engine_error", "empty", "identical", "length_ratio")
FAILED_FLAGS = frozenset({"engine_error", "empty"})
MENTION_FLAGS = ("name_unchanged", "long_span", "only_function_words", "new_overlap")


class Checked(NamedTuple):
    """One sentence: which of SENTENCE_FLAGS hold, and its length ratio, None where it failed or the source is empty."""

    flags: list[str]
    ratio: float | None

    @property
    def failed(self) -> bool:
        return not FAILED_FLAGS.isdisjoint(self.flags)


def check_sentence(source: str, target: str, error: str | None, unspaced: bool) -> Checked:
    """A translated sentence against its source; `unspaced`: the target is counted in characters."""
    if error is not None:
        return Checked(["engine_error"], None)
    if source.strip() and not target.strip():
        return Checked(["empty"], None)
    before, after = (len(source), len(target)) if unspaced else (_words(source), _words(target))
    low, high = CHARACTER_RATIO if unspaced else WORD_RATIO
    ratio = after / before if before else None
    flags = []
    if before >= MIN_WORDS_IDENTICAL and source.strip() == target.strip() and _words(source) >= MIN_WORDS_IDENTICAL:
        flags.append("identical")
    if ratio is not None and not low <= ratio <= high:
        flags.append("length_ratio")
    return Checked(flags, ratio)


def new_overlaps(source: Document, target: Sequence[Sequence[tuple[int, int, int] | None]]) -> set[tuple[int, int]]:
    """Mentions (entity, number) that overlap another entity's in the target and did not in the source.

    `target` has (sentence, start, end) for each mention, None where lost.
    """
    before = [[(m.sent_id, m.start, m.end) for m in entity] for entity in source.entities]
    return _overlapping(target) - _overlapping(before)


def _overlapping(spans: Sequence[Sequence[tuple[int, int, int] | None]]) -> set[tuple[int, int]]:
    by_sentence: dict[int, list[tuple[int, int, int, int]]] = {}
    for e, entity in enumerate(spans):
        for n, span in enumerate(entity):
            if span is not None:
                by_sentence.setdefault(span[0], []).append((span[1], span[2], e, n))
    found: set[tuple[int, int]] = set()
    for members in by_sentence.values():
        for start, end, e, n in members:
            if any(e != other[2] and start < other[1] and other[0] < end for other in members):
                found.add((e, n))
    return found


def _words(text: str) -> int:
    return len(WORD.findall(text))
