"""The marking strategies: how a mention is found again in the translation of its sentence.

`provenance` asks the engine where words went; `tags`, `brackets` and `placeholder` write marks into the text; `locate`
looks for the mention's own translation; `align` follows word alignments. All end in one `Placed` per mention.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from shared.relations.text import Span
from workers.docre.aligning import align_all
from workers.docre.projection import LOST, Piece, Placed, project
from workers.docre.runs import SourceSentence
from workers.docre.translators import Translated, Translator, plain

TAG = re.compile(r"<\s*(/?)\s*m\s*(\d+)\s*>", re.IGNORECASE)
PLACEHOLDER = "ENT{}"


@dataclass(frozen=True)
class Rules:
    """What decides whether a span is found."""

    max_gap_words: int = 3
    fuzzy_min_ratio: float = 0.7


@dataclass(frozen=True)
class TargetSentence:
    """A translated sentence and where its mentions stand."""

    text: str
    placed: tuple[Placed, ...]
    error: str | None = None
    raw: str = ""


Place = Callable[[Sequence[SourceSentence], Translator, Rules], list[TargetSentence]]


def place(strategy: str, sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """Translate sentences and place their mentions by one strategy; `auto` goes by what the engine can do."""
    return STRATEGIES[chosen(strategy, engine)](sentences, engine, rules)


def chosen(strategy: str, engine: Translator) -> str:
    """The strategy that `auto` stands for."""
    if strategy != "auto":
        return strategy
    return {"provenance": "provenance", "tags": "tags", "none": "locate+align"}[engine.marks]


def by_provenance(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """The engine itself says which words come from which run."""
    answers = engine.translate([sentence.chunks() for sentence in sentences])
    return [_by_pieces(s, a, a.pieces or (), rules) for s, a in zip(sentences, answers, strict=True)]


def by_tags(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """`<m0>run</m0>`; what a tag was lost of is found by location or alignment in the same answer."""
    is_markup = engine.marks == "tags"
    answers = engine.translate([plain(tagged(sentence, is_markup)) for sentence in sentences])
    found = []
    for sentence, answer in zip(sentences, answers, strict=True):
        text, pieces = read_tags(answer.text, is_markup)
        found.append(_by_pieces(sentence, Translated(text, answer.error, answer.raw), pieces, rules))
    return _recover(sentences, found, engine, rules)


def tagged(sentence: SourceSentence, is_markup: bool) -> str:
    """The sentence with tags around its runs; as markup, its own `& < >` are escaped."""
    parts = []
    for text, run in sentence.chunks():
        inner = _escaped(text) if is_markup else text
        parts.append(inner if run is None else f"<m{run}>{inner}</m{run}>")
    return "".join(parts)


def read_tags(raw: str, is_markup: bool) -> tuple[str, list[Piece]]:
    """Plain text, and a piece for each pair of tags; a tag without its other end closes at the next one."""
    parts: list[str] = []
    pieces: list[Piece] = []
    open_runs: dict[int, int] = {}
    length, at = 0, 0
    for tag in TAG.finditer(raw):
        part = _unescaped(raw[at : tag.start()]) if is_markup else raw[at : tag.start()]
        parts.append(part)
        length, at = length + len(part), tag.end()
        run = int(tag[2])
        if not tag[1]:
            open_runs[run] = length
        elif run in open_runs:
            pieces.append(Piece(open_runs.pop(run), length, frozenset({run})))
    parts.append(_unescaped(raw[at:]) if is_markup else raw[at:])
    return "".join(parts), [piece for piece in pieces if piece.start < piece.end]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _unescaped(text: str) -> str:
    return (
        text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", '"')
        .replace("&#39;", "'")
        .replace("&amp;", "&")
    )


def by_brackets(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """`[run]`, matched back by likeness to the run's own translation (EasyProject); best pairs first."""
    answers = _translate(
        engine, ["".join(text if run is None else f"[{text}]" for text, run in s.chunks()) for s in sentences]
    )
    runs = [[chunk.text for chunk in s.chunks() if chunk.run is not None] for s in sentences]
    alone = _translations([text for texts in runs for text in texts], engine)
    found = []
    for sentence, answer, texts in zip(sentences, answers, runs, strict=True):
        text, spans = _read_brackets(answer.text)
        wanted = [alone[each] for each in texts]
        pieces = [
            Piece(*spans[span], frozenset({run}))
            for run, span in _matched(wanted, [text[s:e] for s, e in spans]).items()
        ]
        found.append(_by_pieces(sentence, Translated(text, answer.error, answer.raw), pieces, rules))
    return _recover(sentences, found, engine, rules)


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
        ((-_ratio(want, have), w, f) for w, want in enumerate(wanted) for f, have in enumerate(found)),
    )
    pairs: dict[int, int] = {}
    for _, w, f in scored:
        if w not in pairs and f not in pairs.values():
            pairs[w] = f
    return pairs


def by_placeholder(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """A made-up word for each run; the run is translated alone and put in its place."""
    answers = _translate(
        engine,
        ["".join(text if run is None else PLACEHOLDER.format(run) for text, run in s.chunks()) for s in sentences],
    )
    alone = _translations([c.text for s in sentences for c in s.chunks() if c.run is not None], engine)
    found = []
    for sentence, answer in zip(sentences, answers, strict=True):
        own = [alone[chunk.text] for chunk in sentence.chunks() if chunk.run is not None]
        text, pieces = _read_placeholders(answer.text, own)
        found.append(_by_pieces(sentence, Translated(text, answer.error, answer.raw), pieces, rules))
    return _recover(sentences, found, engine, rules)


def _read_placeholders(raw: str, own: Sequence[str]) -> tuple[str, list[Piece]]:
    parts: list[str] = []
    pieces: list[Piece] = []
    length, at = 0, 0
    for mark in re.finditer(r"\bENT(\d+)\b", raw, re.IGNORECASE):
        if int(mark[1]) < len(own):
            parts += [raw[at : mark.start()], own[int(mark[1])]]
            start = length + mark.start() - at
            length, at = start + len(parts[-1]), mark.end()
            pieces.append(Piece(start, length, frozenset({int(mark[1])})))
    return "".join([*parts, raw[at:]]), pieces


# Without marks --------------------------------------------------------------------------------------------------------


def by_location(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """Each mention is translated alone and looked for in the sentence, exactly, else by likeness."""
    answers = _translate(engine, [sentence.text for sentence in sentences])
    return _located(sentences, answers, engine, rules.fuzzy_min_ratio)


def by_alignment(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """Mentions follow the engine's word alignment, else a statistical one over all sentences."""
    answers = _translate(engine, [sentence.text for sentence in sentences])
    return _aligned(sentences, answers, rules)


def by_location_or_alignment(
    sentences: Sequence[SourceSentence], engine: Translator, rules: Rules
) -> list[TargetSentence]:
    """Exactly located, else aligned."""
    answers = _translate(engine, [sentence.text for sentence in sentences])
    located = _located(sentences, answers, engine, None)
    return _filled(located, _aligned(sentences, answers, rules), None)


def _translate(engine: Translator, texts: Sequence[str]) -> list[Translated]:
    """Text without marks; for an engine that reads markup its own signs are escaped."""
    if engine.marks != "tags":
        return engine.translate([plain(text) for text in texts])
    answers = engine.translate([plain(_escaped(text)) for text in texts])
    return [replace(answer, text=_unescaped(answer.text)) for answer in answers]


def _located(
    sentences: Sequence[SourceSentence], answers: Sequence[Translated], engine: Translator, min_ratio: float | None
) -> list[TargetSentence]:
    """`min_ratio` None: only exact finds count."""
    alone = _translations([s.mention_text(m) for s in sentences for m in range(len(s.mentions))], engine)
    found = []
    for sentence, answer in zip(sentences, answers, strict=True):
        taken: list[Span] = []
        placed = []
        for mention in range(len(sentence.mentions)):
            span = locate(alone[sentence.mention_text(mention)], answer.text, taken, min_ratio)
            taken += [span] if span else []
            placed.append(Placed(span, "contiguous") if span else LOST)
        found.append(TargetSentence(answer.text, tuple(placed), answer.error, answer.raw))
    return found


def locate(name: str, text: str, taken: Sequence[Span], min_ratio: float | None) -> Span | None:
    """The first free occurrence of a name as whole words; else the most alike stretch of about as many words."""
    bare = name.strip(" .,;:!?")
    if not bare:
        return None
    exact = [Span(*m.span()) for m in re.finditer(rf"(?<!\w){re.escape(bare)}(?!\w)", text, re.IGNORECASE)]
    free = [span for span in exact if span not in taken]
    if free or exact:
        return (free or exact)[0]
    return None if min_ratio is None else _most_alike(bare, text, min_ratio)


def _most_alike(name: str, text: str, min_ratio: float) -> Span | None:
    words = [Span(*m.span()) for m in re.finditer(r"\w+", text)]
    size = max(1, len(re.findall(r"\w+", name)))
    best: tuple[float, Span] | None = None
    for length in range(max(1, size - 1), size + 2):
        for first in range(len(words) - length + 1):
            span = Span(words[first].start, words[first + length - 1].end)
            ratio = _ratio(name, text[span.start : span.end])
            if ratio >= min_ratio and (best is None or ratio > best[0]):
                best = (ratio, span)
    return best[1] if best else None


def _ratio(a: str, b: str) -> float:
    return SequenceMatcher(None, a.lower(), b.lower(), autojunk=False).ratio()


def _aligned(sentences: Sequence[SourceSentence], answers: Sequence[Translated], rules: Rules) -> list[TargetSentence]:
    missing = [n for n, answer in enumerate(answers) if answer.alignment is None]
    links = {n: answer.alignment for n, answer in enumerate(answers) if answer.alignment is not None}
    links |= dict(zip(missing, align_all([(sentences[n].text, answers[n].text) for n in missing]), strict=True))
    return [
        _by_pieces(sentence, answers[n], _pieces_of(sentence, links[n]), rules) for n, sentence in enumerate(sentences)
    ]


def _pieces_of(sentence: SourceSentence, links: Sequence[tuple[Span, Span]]) -> list[Piece]:
    """Target words as pieces of the runs that their source words stand in."""
    runs_at = [sentence.characters(run.start, run.end) for run in sentence.runs]
    by_target: dict[Span, set[int]] = {}
    for source, target in links:
        own = {n for n, run in enumerate(runs_at) if source.start < run.end and run.start < source.end}
        by_target.setdefault(target, set()).update(own)
    return [Piece(*target, frozenset(runs)) for target, runs in sorted(by_target.items()) if runs]


def _by_pieces(sentence: SourceSentence, answer: Translated, pieces: Sequence[Piece], rules: Rules) -> TargetSentence:
    placed = tuple(
        project(answer.text, pieces, sentence.runs_of(mention), rules.max_gap_words)
        for mention in range(len(sentence.mentions))
    )
    return TargetSentence(answer.text, placed, answer.error, answer.raw)


def _recover(
    sentences: Sequence[SourceSentence], found: list[TargetSentence], engine: Translator, rules: Rules
) -> list[TargetSentence]:
    """Where a mark was lost, location and alignment in the marked answer itself."""
    torn = [n for n, target in enumerate(found) if any(placed.span is None for placed in target.placed)]
    if not torn:
        return found
    # All sentences serve the aligner, since it learns from them; only torn ones are mended.
    answers = [Translated(target.text, target.error, target.raw) for target in found]
    located = _located([sentences[n] for n in torn], [answers[n] for n in torn], engine, None)
    aligned = _aligned(sentences, answers, rules)
    mended = list(found)
    for n, target in zip(torn, _filled(located, [aligned[n] for n in torn], None), strict=True):
        mended[n] = _filled([found[n]], [target], "recovered_by_align")[0]
    return mended


def _filled(
    first: Sequence[TargetSentence], second: Sequence[TargetSentence], status: str | None
) -> list[TargetSentence]:
    """The second's places where the first has none."""
    found = []
    for a, b in zip(first, second, strict=True):
        placed = [
            one if one.span is not None or other.span is None else _with_status(other, status)
            for one, other in zip(a.placed, b.placed, strict=True)
        ]
        found.append(TargetSentence(a.text, tuple(placed), a.error, a.raw))
    return found


def _with_status(placed: Placed, status: str | None) -> Placed:
    return Placed(placed.span, "recovered_by_align") if status else placed


def _translations(texts: Sequence[str], engine: Translator) -> dict[str, str]:
    """Each text's translation on its own; a text that comes again is translated once."""
    unique = list(dict.fromkeys(texts))
    answers = _translate(engine, unique)
    return {text: answer.text.strip() for text, answer in zip(unique, answers, strict=True)}


STRATEGIES: dict[str, Place] = {
    "provenance": by_provenance,
    "tags": by_tags,
    "brackets": by_brackets,
    "placeholder": by_placeholder,
    "locate": by_location,
    "align": by_alignment,
    "locate+align": by_location_or_alignment,
}
