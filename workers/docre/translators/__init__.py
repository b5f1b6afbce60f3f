"""Translation engines behind one interface: `Translator.translate(segments) -> list[Translated]`.

A segment is a sentence cut into chunks; one segment in, one translation out, in order. Engines differ in what they do
with marks: some carry them by themselves (`provenance`), some pass tags through (`tags`), the rest know only
text (`none`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from shared.relations.text import Span
from workers.docre.projection import Piece
from workers.docre.runs import Chunk

Segment = Sequence[Chunk]
Marks = Literal["provenance", "tags", "none"]


class WordCount(NamedTuple):
    """Source words of a segment, as the engine's analyser cut them."""

    words: int
    unknown: int


@dataclass(frozen=True)
class Translated:
    """One answer. Either `error` says why there is none, or `text` is the translation."""

    text: str
    error: str | None = None
    raw: str = ""
    """As the engine wrote it, marks included."""
    pieces: tuple[Piece, ...] | None = None
    """Which runs which characters come from; only of engines with provenance."""
    alignment: tuple[tuple[Span, Span], ...] | None = None
    """(source characters, target characters), word by word; of engines that tell."""
    words: WordCount | None = None
    """Of engines that know which words they don't know."""


@dataclass(frozen=True)
class EngineInfo:
    """What translated: name and versions; two engines of equal info give equal translations."""

    name: str
    versions: Mapping[str, str]


class Translator(Protocol):
    """An engine, open for one shard."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def marks(self) -> Marks: ...

    def translate(self, segments: Sequence[Segment]) -> list[Translated]:
        """As many answers as segments. Raises Retryable when the engine is down, InvalidInput when it can't be used."""
        ...


def text_of(segment: Segment) -> str:
    """The segment without its marks."""
    return "".join(chunk.text for chunk in segment)


def plain(text: str) -> Segment:
    """A segment without marks."""
    return (Chunk(text, None),)


def once(segments: Sequence[Segment], translate: Callable[[list[str]], list[Translated]]) -> list[Translated]:
    """Segments without marks through an engine of texts: what comes again in a shard is translated once."""
    texts = [text_of(segment) for segment in segments]
    unique = list(dict.fromkeys(texts))
    answers = dict(zip(unique, translate(unique), strict=True))
    return [answers[text] for text in texts]


def escaped(text: str) -> str:
    """Text in markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescaped(text: str) -> str:
    """The text of markup; engines may write quotes as entities too."""
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&amp;", "&")):
        text = text.replace(entity, sign)
    return text
