"""What is wrong with a transferred sentence, mention or document, and whether the document is accepted."""

import re
from collections.abc import Sequence

from shared.relations.documents import Document

WORD_RATIO = (0.4, 2.5)  # target words per source word
CHARACTER_RATIO = (0.15, 1.5)  # target characters per source character, unspaced scripts
MIN_WORDS_IDENTICAL = 4
LONGER_THAN = 3  # times the source's tokens
SENTENCE_FLAGS = ("engine_error", "empty", "identical", "length_ratio")
FAILED_FLAGS = frozenset({"engine_error", "empty"})
MENTION_FLAGS = ("name_unchanged", "long_span", "only_function_words", "new_overlap")


def sentence_flags(source: str, target: str, error: str | None, is_unspaced: bool) -> list[str]:
    """Which of SENTENCE_FLAGS hold."""
    if error is not None:
        return ["engine_error"]
    if source.strip() and not target.strip():
        return ["empty"]
    flags = []
    if source.strip() == target.strip() and len(_words(source)) >= MIN_WORDS_IDENTICAL:
        flags.append("identical")
    ratio = length_ratio(source, target, is_unspaced)
    low, high = CHARACTER_RATIO if is_unspaced else WORD_RATIO
    if ratio is not None and not low <= ratio <= high:
        flags.append("length_ratio")
    return flags


def length_ratio(source: str, target: str, is_unspaced: bool) -> float | None:
    """Target over source: words, or characters where the target has no spaces."""
    before, after = (len(source), len(target)) if is_unspaced else (len(_words(source)), len(_words(target)))
    return after / before if before else None


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


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)
