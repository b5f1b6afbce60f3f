"""From tokens to natural text and back: each token's character offsets are known all the way."""

import re
from collections.abc import Sequence
from typing import NamedTuple

NO_SPACE_BEFORE = frozenset(".,;:!?)]}%”’…") | {"...", "''"}
NO_SPACE_AFTER = frozenset("([{$#“‘") | {"``"}
JOINED = frozenset("-/–")
CLITIC = re.compile(r"(?:'(?:s|re|ve|ll|d|m|t)|n't|’s|’)\Z", re.IGNORECASE)
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
UNSPACED = re.compile(f"[{_UNSPACED}]")
WORD = re.compile(rf"[^\W{_UNSPACED}]+|[^\s]")


class Span(NamedTuple):
    """Characters [start, end) of a text."""

    start: int
    end: int


class Detokenised(NamedTuple):
    """Natural text, and where each token stands in it."""

    text: str
    spans: tuple[Span, ...]


def detokenise(tokens: Sequence[str]) -> Detokenised:
    """Join tokens as people write: straight double quotes alternate open and close; Japanese takes no spaces."""
    pieces: list[str] = []
    spans: list[Span] = []
    length, quote_is_open, glue = 0, False, True
    may_be_unspaced = UNSPACED.search("".join(tokens)) is not None
    for number, token in enumerate(tokens):
        closes = token == '"' and quote_is_open
        if not (glue or closes or _sticks_left(token) or (may_be_unspaced and _is_unspaced(tokens[number - 1], token))):
            pieces.append(" ")
            length += 1
        pieces.append(token)
        spans.append(Span(length, length + len(token)))
        length += len(token)
        glue = token in NO_SPACE_AFTER or token in JOINED or (token == '"' and not quote_is_open)
        quote_is_open ^= token == '"'
    return Detokenised("".join(pieces), tuple(spans))


def _sticks_left(token: str) -> bool:
    return token in NO_SPACE_BEFORE or token in JOINED or (("'" in token or "’" in token) and bool(CLITIC.match(token)))


def _is_unspaced(before: str, after: str) -> bool:
    """Between two tokens of a script that knows no spaces."""
    return bool(UNSPACED.match(before[-1]) or UNSPACED.match(after[0]))


def word_spans(text: str) -> list[Span]:
    """The default tokeniser: words, and every other sign by itself; scripts without spaces a sign at a time."""
    return [Span(*found.span()) for found in WORD.finditer(text)]
