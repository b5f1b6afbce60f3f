"""Target-language tokens, and trimming of particles that a translator left inside a marked name.

Scripts with spaces use one regular expression, which takes Chinese and Thai a sign at a time; Japanese an analyser:
fugashi with unidic-lite or ipadic, or SudachiPy.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from shared.jobs.catalog.docre.transfer import JAPANESE
from shared.jobs.errors import InvalidInput
from shared.relations.text import Span, word_spans

Analyser = Literal["unidic-lite", "ipadic", "sudachi"]
UNSPACED = ("ja", "jpn", "zh", "zho", "cmn", "yue", "th", "tha")
"""Languages whose text has no spaces between words, as codes begin."""
PARTICLE = "助詞"
UNIDIC_CLASSES = frozenset({"格助詞", "係助詞", "副助詞"})
IPADIC_CLASSES = frozenset({"格助詞", "係助詞", "連体化", "並立助詞", "副助詞", "副助詞／並立助詞／終助詞"})
ARTICLES = {
    "spa": frozenset({"el", "la", "los", "las", "un", "una"}),
    "es": frozenset({"el", "la", "los", "las", "un", "una"}),
}


class Morpheme(NamedTuple):
    """A token of a sentence, and whether a name may lose it at its end."""

    span: Span
    is_particle: bool = False


Tokeniser = Callable[[str], list[Morpheme]]


def is_unspaced(language: str) -> bool:
    """Whether lengths are counted in characters."""
    return re.split("[_-]", language)[0].lower() in UNSPACED


def tokeniser_of(language: str, analyser: Analyser) -> Tokeniser:
    """How this language is tokenised. Raises InvalidInput where the analyser is not installed."""
    if language not in JAPANESE:
        return lambda text: [Morpheme(span) for span in word_spans(text)]
    return _analyser(analyser)


@lru_cache(maxsize=3)
def _analyser(name: Analyser) -> Tokeniser:
    try:
        return {"unidic-lite": _unidic, "ipadic": _ipadic, "sudachi": _sudachi}[name]()
    except ImportError as missing:
        packages = {
            "unidic-lite": "fugashi unidic-lite",
            "ipadic": "fugashi ipadic",
            "sudachi": "sudachipy sudachidict-core",
        }
        raise InvalidInput(
            f"analyser: {name} needs {missing.name}, which is not installed here; pip install {packages[name]}"
        ) from None


def _unidic() -> Tokeniser:
    import fugashi
    import unidic_lite

    tagger = fugashi.Tagger(f'-d "{unidic_lite.DICDIR}"')
    return lambda text: _located(
        text, [(str(w.surface), w.feature.pos1 == PARTICLE and w.feature.pos2 in UNIDIC_CLASSES) for w in tagger(text)]
    )


def _ipadic() -> Tokeniser:
    import fugashi
    import ipadic

    tagger = fugashi.GenericTagger(ipadic.MECAB_ARGS)
    return lambda text: _located(
        text, [(str(w.surface), w.feature[0] == PARTICLE and w.feature[1] in IPADIC_CLASSES) for w in tagger(text)]
    )


def _sudachi() -> Tokeniser:
    import sudachipy

    dictionary: Any = sudachipy.Dictionary()
    tagger = dictionary.tokenizer() if hasattr(dictionary, "tokenizer") else dictionary.create()
    return lambda text: _located(
        text,
        [
            (m.surface(), m.part_of_speech()[0] == PARTICLE and m.part_of_speech()[1] in UNIDIC_CLASSES)
            for m in tagger.tokenize(text)
        ],
    )


def _located(text: str, morphemes: Sequence[tuple[str, bool]]) -> list[Morpheme]:
    """Surfaces with their characters: analysers drop white space."""
    found, at = [], 0
    for surface, is_particle in morphemes:
        start = text.find(surface, at)
        if not surface.strip() or start < 0:
            continue
        at = start + len(surface)
        found.append(Morpheme(Span(start, at), is_particle))
    return found


def without_particles(morphemes: Sequence[Morpheme], span: Span) -> Span:
    """The span without case, topic and adverbial particles at its end; never empty."""
    own = [morpheme for morpheme in morphemes if span.start <= morpheme.span.start and morpheme.span.end <= span.end]
    while len(own) > 1 and own[-1].is_particle and own[-1].span.end == span.end:
        own.pop()
        span = Span(span.start, own[-1].span.end)
    return span


def is_only_function_words(name: str, language: str, particles: Sequence[bool]) -> bool:
    """A mention that names nothing: only an article, or only particles."""
    return name.strip().lower() in ARTICLES.get(language, ()) or (bool(particles) and all(particles))
