"""Strategies without marks: a mention's own translation is looked for in the sentence, or words are aligned.

They also mend what a marking strategy lost (`recover`), in the marked answer itself.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from shared.relations.text import Span
from workers.docre.projection import LOST, Piece, Placed
from workers.docre.runs import SourceSentence
from workers.docre.targets import Rules, TargetSentence, by_pieces
from workers.docre.translators import Translated, Translator, escaped, plain, unescaped


def by_location(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """Each mention is translated alone and looked for in the sentence, exactly, else by likeness."""
    answers = translate_text(engine, [sentence.text for sentence in sentences])
    return located(sentences, answers, engine, rules.fuzzy_min_ratio)


def by_alignment(sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """Mentions follow the engine's word alignment, else a statistical one over all sentences."""
    answers = translate_text(engine, [sentence.text for sentence in sentences])
    return _aligned(sentences, answers, rules)


def by_location_or_alignment(
    sentences: Sequence[SourceSentence], engine: Translator, rules: Rules
) -> list[TargetSentence]:
    """Exactly located, else aligned."""
    answers = translate_text(engine, [sentence.text for sentence in sentences])
    exact = located(sentences, answers, engine, None)
    return filled(exact, _aligned(sentences, answers, rules), None)


def translate_text(engine: Translator, texts: Sequence[str]) -> list[Translated]:
    """Text without marks; for an engine that reads markup its own signs are escaped."""
    if engine.marks != "tags":
        return engine.translate([plain(text) for text in texts])
    answers = engine.translate([plain(escaped(text)) for text in texts])
    return [replace(answer, text=unescaped(answer.text)) for answer in answers]


def located(
    sentences: Sequence[SourceSentence], answers: Sequence[Translated], engine: Translator, min_ratio: float | None
) -> list[TargetSentence]:
    """`min_ratio` None: only exact finds count."""
    alone = translations([s.mention_text(m) for s in sentences for m in range(len(s.mentions))], engine)
    found = []
    for sentence, answer in zip(sentences, answers, strict=True):
        taken: list[Span] = []
        placed = []
        for mention in range(len(sentence.mentions)):
            span = locate(alone[sentence.mention_text(mention)], answer.text, taken, min_ratio)
            taken += [span] if span else []
            placed.append(Placed(span, "contiguous") if span else LOST)
        found.append(TargetSentence.of(answer, placed))
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
            ratio = likeness(name, text[span.start : span.end])
            if ratio >= min_ratio and (best is None or ratio > best[0]):
                best = (ratio, span)
    return best[1] if best else None


def likeness(a: str, b: str) -> float:
    return SequenceMatcher(None, a.lower(), b.lower(), autojunk=False).ratio()


def _aligned(sentences: Sequence[SourceSentence], answers: Sequence[Translated], rules: Rules) -> list[TargetSentence]:
    from workers.docre.aligning import align_all  # numpy: most shards start without it

    missing = [n for n, answer in enumerate(answers) if answer.alignment is None]
    links = {n: answer.alignment for n, answer in enumerate(answers) if answer.alignment is not None}
    links |= dict(zip(missing, align_all([(sentences[n].text, answers[n].text) for n in missing]), strict=True))
    return [
        by_pieces(sentence, answers[n], pieces_of(sentence, links[n]), rules) for n, sentence in enumerate(sentences)
    ]


def pieces_of(sentence: SourceSentence, links: Sequence[tuple[Span, Span]]) -> list[Piece]:
    """Target words as pieces of the runs that their source words stand in."""
    runs_at = [sentence.characters(run.start, run.end) for run in sentence.runs]
    by_target: dict[Span, set[int]] = {}
    for source, target in links:
        own = {n for n, run in enumerate(runs_at) if source.start < run.end and run.start < source.end}
        by_target.setdefault(target, set()).update(own)
    return [Piece(*target, frozenset(runs)) for target, runs in sorted(by_target.items()) if runs]


def recover(
    sentences: Sequence[SourceSentence], found: list[TargetSentence], engine: Translator, rules: Rules
) -> list[TargetSentence]:
    """Where a mark was lost, location and alignment in the marked answer itself."""
    torn = [n for n, target in enumerate(found) if any(placed.span is None for placed in target.placed)]
    if not torn:
        return found
    # All sentences serve the aligner, since it learns from them; only torn ones are mended.
    answers = [Translated(target.text, target.error, target.raw, words=target.words) for target in found]
    exact = located([sentences[n] for n in torn], [answers[n] for n in torn], engine, None)
    aligned = _aligned(sentences, answers, rules)
    mended = list(found)
    for n, target in zip(torn, filled(exact, [aligned[n] for n in torn], None), strict=True):
        mended[n] = filled([found[n]], [target], "recovered_by_align")[0]
    return mended


def filled(
    first: Sequence[TargetSentence], second: Sequence[TargetSentence], status: str | None
) -> list[TargetSentence]:
    """The second's places where the first has none."""
    found = []
    for a, b in zip(first, second, strict=True):
        placed = [
            one if one.span is not None or other.span is None else _with_status(other, status)
            for one, other in zip(a.placed, b.placed, strict=True)
        ]
        found.append(replace(a, placed=tuple(placed)))
    return found


def _with_status(placed: Placed, status: str | None) -> Placed:
    return Placed(placed.span, "recovered_by_align") if status else placed


def translations(texts: Sequence[str], engine: Translator) -> dict[str, str]:
    """Each text's translation on its own; a text that comes again is translated once."""
    unique = list(dict.fromkeys(texts))
    answers = translate_text(engine, unique)
    return {text: answer.text.strip() for text, answer in zip(unique, answers, strict=True)}
