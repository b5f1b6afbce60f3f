"""Strategies that write marks: word-bound blanks of the engine itself, tags, brackets, placeholders.

All end in pieces, from which mentions are projected; what a mark was lost of is found by location or alignment.
"""

import re
from collections.abc import Sequence

from shared.relations.text import Span
from workers.docre.locating import likeness, recover, translate_text, translations
from workers.docre.projection import Piece
from workers.docre.runs import SourceSentence
from workers.docre.targets import Rules, TargetSentence, by_pieces
from workers.docre.translators import Translated, Translator, escaped, plain, unescaped

TAG = re.compile(r"<\s*(/?)\s*m\s*(\d+)\s*>", re.IGNORECASE)
PLACEHOLDER = "ENT{}"


def by_provenance(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """The engine itself says which words come from which run."""
    answers = engine.translate([sentence.chunks() for sentence in sentences])
    return [by_pieces(s, a, a.pieces or (), rules) for s, a in zip(sentences, answers, strict=True)]


def by_tags(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """`<m0>run</m0>`; what a tag was lost of is found by location or alignment in the same answer."""
    is_markup = engine.marks == "tags"
    answers = engine.translate([plain(tagged(sentence, is_markup)) for sentence in sentences])
    found = []
    for sentence, answer in zip(sentences, answers, strict=True):
        text, pieces = read_tags(answer.text, is_markup)
        found.append(by_pieces(sentence, Translated(text, answer.error, answer.raw), pieces, rules))
    return recover(sentences, found, engine, rules)


def tagged(sentence: SourceSentence, is_markup: bool) -> str:
    """The sentence with tags around its runs; as markup, its own `& < >` are escaped."""
    parts = []
    for text, run in sentence.chunks():
        inner = escaped(text) if is_markup else text
        parts.append(inner if run is None else f"<m{run}>{inner}</m{run}>")
    return "".join(parts)


def read_tags(raw: str, is_markup: bool) -> tuple[str, list[Piece]]:
    """Plain text, and a piece for each pair of tags; a tag without its other end closes at the next one."""
    parts: list[str] = []
    pieces: list[Piece] = []
    open_runs: dict[int, int] = {}
    length, at = 0, 0
    for tag in TAG.finditer(raw):
        part = unescaped(raw[at : tag.start()]) if is_markup else raw[at : tag.start()]
        parts.append(part)
        length, at = length + len(part), tag.end()
        run = int(tag[2])
        if not tag[1]:
            open_runs[run] = length
        elif run in open_runs:
            pieces.append(Piece(open_runs.pop(run), length, frozenset({run})))
    parts.append(unescaped(raw[at:]) if is_markup else raw[at:])
    return "".join(parts), [piece for piece in pieces if piece.start < piece.end]


def by_brackets(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """`[run]`, matched back by likeness to the run's own translation (EasyProject); best pairs first."""
    answers = translate_text(
        engine, ["".join(text if run is None else f"[{text}]" for text, run in s.chunks()) for s in sentences]
    )
    runs = [[chunk.text for chunk in s.chunks() if chunk.run is not None] for s in sentences]
    alone = translations([text for texts in runs for text in texts], engine)
    found = []
    for sentence, answer, texts in zip(sentences, answers, runs, strict=True):
        text, spans = _read_brackets(answer.text)
        wanted = [alone[each] for each in texts]
        pieces = [
            Piece(*spans[span], frozenset({run}))
            for run, span in _matched(wanted, [text[s:e] for s, e in spans]).items()
        ]
        found.append(by_pieces(sentence, Translated(text, answer.error, answer.raw), pieces, rules))
    return recover(sentences, found, engine, rules)


def _read_brackets(raw: str) -> tuple[str, list[Span]]:
    parts: list[str] = []
    spans: list[Span] = []
    length, begun = 0, -1
    for part in re.split(r"([\[\]])", raw):
        if part == "[":
            begun = length
        elif part == "]":
            if 0 <= begun < length:
                spans.append(Span(begun, length))
            begun = -1
        else:
            parts.append(part)
            length += len(part)
    return "".join(parts), spans


def _matched(wanted: Sequence[str], found: Sequence[str]) -> dict[int, int]:
    """Wanted → found, each used once, the most alike first."""
    scored = sorted(
        ((-likeness(want, have), w, f) for w, want in enumerate(wanted) for f, have in enumerate(found)),
    )
    pairs: dict[int, int] = {}
    for _, w, f in scored:
        if w not in pairs and f not in pairs.values():
            pairs[w] = f
    return pairs


def by_placeholder(
    sentences: Sequence[SourceSentence], engine: Translator, rules: Rules, form: str = PLACEHOLDER
) -> list[TargetSentence]:
    """A made-up word for each run; the run is translated alone and put in its place."""
    answers = translate_text(
        engine,
        ["".join(text if run is None else form.format(run) for text, run in s.chunks()) for s in sentences],
    )
    alone = translations([c.text for s in sentences for c in s.chunks() if c.run is not None], engine)
    found = []
    for sentence, answer in zip(sentences, answers, strict=True):
        own = [alone[chunk.text] for chunk in sentence.chunks() if chunk.run is not None]
        text, pieces = _read_placeholders(answer.text, own, form)
        found.append(by_pieces(sentence, Translated(text, answer.error, answer.raw), pieces, rules))
    return recover(sentences, found, engine, rules)


def _read_placeholders(raw: str, own: Sequence[str], form: str) -> tuple[str, list[Piece]]:
    parts: list[str] = []
    pieces: list[Piece] = []
    length, at = 0, 0
    pattern = r"(?<!\w)" + form.format(r"(\d+)") + r"(?!\w)"
    for mark in re.finditer(pattern, raw, re.IGNORECASE):
        if int(mark[1]) < len(own):
            parts += [raw[at : mark.start()], own[int(mark[1])]]
            start = length + mark.start() - at
            length, at = start + len(parts[-1]), mark.end()
            pieces.append(Piece(start, length, frozenset({int(mark[1])})))
    return "".join([*parts, raw[at:]]), pieces
