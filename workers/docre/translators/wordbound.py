"""Apertium's stream format with word-bound blanks: `[[t:m:3]]word[[/]]` marks a word and travels with it."""

import re

from workers.docre.projection import Piece
from workers.docre.translators import Segment, Translated

RESERVED = re.compile(r"([\^$/<>{}\[\]\\@])")
TOKEN = re.compile(
    r"\\(?P<escaped>.)|\[\[/\]\](?P<close>)|\[\[(?P<open>[^\]]*)\]\]|\[[^\]]*\]|(?P<text>[^\\\[]+|.)", re.DOTALL
)
MARK = re.compile(r"t:m:(\d+)")
END = "\n\0"
"""Of a segment: a full stop right before NUL would be lost."""


def escape(text: str) -> str:
    """Text in which no character means anything to the engine; line breaks and NUL become spaces."""
    return RESERVED.sub(r"\\\1", re.sub(r"[\n\r\0]", " ", text))


def marked(segment: Segment) -> str:
    """The segment as the engine reads it."""
    return "".join(
        escape(chunk.text) if chunk.run is None else f"[[t:m:{chunk.run}]]{escape(chunk.text)}[[/]]"
        for chunk in segment
    )


def parse_stream(raw: str) -> Translated:
    """Plain text and pieces of an engine's answer."""
    parts: list[str] = []
    pieces: list[Piece] = []
    length, begun, runs = 0, 0, frozenset[int]()
    for found in TOKEN.finditer(raw):
        if found["open"] is not None:
            begun, runs = length, frozenset(map(int, MARK.findall(found["open"])))
        elif found["close"] is not None:
            if runs and begun < length:
                pieces.append(Piece(begun, length, runs))
            runs = frozenset()
        else:
            text = found["escaped"] or found["text"] or ""
            parts.append(text)
            length += len(text)
    return Translated("".join(parts), raw=raw, pieces=tuple(pieces))
