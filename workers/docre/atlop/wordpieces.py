"""A document as word pieces: sentences in a row, `*` before and after every mention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.relations.documents import Document

MARK = "*"


@dataclass(frozen=True)
class Pieces:
    """Word pieces with their start and end tokens, and what stands where."""

    ids: list[int]
    entities: list[list[int]]  # each mention's opening mark
    sentences: list[tuple[int, int]]  # [start, end) of each
    is_truncated: bool


def word_pieces(document: Document, tokenizer: Any, max_len: int) -> Pieces:
    """At most `max_len` pieces, start and end tokens included; a mention past the end keeps its position out there."""
    opens, closes = _marks(document)
    pieces: list[str] = []
    openings: dict[tuple[int, int], int] = {}
    sentences = []
    for s, sentence in enumerate(document.sentences):
        begin = len(pieces)
        for t, token in enumerate(sentence):
            if (s, t) in opens:
                openings[s, t] = len(pieces)  # the first of several: mentions that begin together share one mark
                pieces.append(MARK)
            pieces += tokenizer.tokenize(token)
            if (s, t) in closes:
                pieces.append(MARK)
        sentences.append((begin, len(pieces)))
    start, end = start_tokens(tokenizer), end_tokens(tokenizer)
    room = max_len - len(start) - len(end)
    own = tokenizer.convert_tokens_to_ids(pieces[:room])
    offset = len(start)
    entities = [[openings[m.sent_id, m.start] + offset for m in entity] for entity in document.entities]
    shifted = [(min(a, room) + offset, min(b, room) + offset) for a, b in sentences]
    return Pieces([*start, *own, *end], entities, shifted, len(pieces) > room)


def start_tokens(tokenizer: Any) -> list[int]:
    """What stands before a text: [CLS], <s>."""
    return list(tokenizer("")["input_ids"])[:1]


def end_tokens(tokenizer: Any) -> list[int]:
    """What stands after it: [SEP], </s>."""
    return list(tokenizer("")["input_ids"])[1:]


def _marks(document: Document) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Tokens that a mark stands before, and after."""
    mentions: Sequence[Any] = [mention for entity in document.entities for mention in entity]
    return {(m.sent_id, m.start) for m in mentions}, {(m.sent_id, m.end - 1) for m in mentions}
