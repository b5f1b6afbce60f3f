"""A sentence to be transferred: natural text, and the runs of tokens that the same mentions cover.

Runs make nested, identical and crossing mentions markable without nesting: each maximal stretch of tokens under the
same set of mentions is one run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from shared.relations.documents import Document
from shared.relations.text import Detokenised, Span, detokenise


class Chunk(NamedTuple):
    """A stretch of source text; `run` None: under no mention."""

    text: str
    run: int | None


class Run(NamedTuple):
    """Tokens [start, end) under one set of mentions."""

    start: int
    end: int
    mentions: frozenset[int]


def cut_runs(spans: Sequence[tuple[int, int]]) -> list[Run]:
    """The runs with mentions in them, in text order; `spans` are each mention's tokens [start, end)."""
    edges = sorted({edge for span in spans for edge in span})
    runs: list[Run] = []
    for start, end in pairwise(edges):
        covering = frozenset(n for n, span in enumerate(spans) if span[0] <= start and end <= span[1])
        if covering and runs and runs[-1].mentions == covering and runs[-1].end == start:
            runs[-1] = Run(runs[-1].start, end, covering)
        elif covering:
            runs.append(Run(start, end, covering))
    return runs


@dataclass(frozen=True)
class SourceSentence:
    """One sentence of the source and its mentions, numbered in the sentence."""

    detokenised: Detokenised
    mentions: tuple[tuple[int, int], ...]  # each mention's tokens [start, end)
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, tokens: Sequence[str], mentions: Sequence[tuple[int, int]]) -> "SourceSentence":
        return cls(detokenise(tokens), tuple(mentions), tuple(cut_runs(mentions)))

    @property
    def text(self) -> str:
        return self.detokenised.text

    def characters(self, start: int, end: int) -> Span:
        """The characters under tokens [start, end)."""
        spans = self.detokenised.spans
        return Span(spans[start].start, spans[end - 1].end)

    def mention_text(self, mention: int) -> str:
        start, end = self.characters(*self.mentions[mention])
        return self.text[start:end]

    @property
    def runs_by_mention(self) -> list[frozenset[int]]:
        """The ids of the runs that each mention covers."""
        found: list[set[int]] = [set() for _ in self.mentions]
        for number, run in enumerate(self.runs):
            for mention in run.mentions:
                found[mention].add(number)
        return [frozenset(own) for own in found]

    def chunks(self) -> list[Chunk]:
        """The whole text, cut at runs."""
        found, at = [], 0
        for number, run in enumerate(self.runs):
            start, end = self.characters(run.start, run.end)
            if at < start:
                found.append(Chunk(self.text[at:start], None))
            found.append(Chunk(self.text[start:end], number))
            at = end
        if at < len(self.text):
            found.append(Chunk(self.text[at:], None))
        return found


class SentenceMentions(NamedTuple):
    """The mentions of one sentence by (entity, number in it), in the document's order."""

    keys: tuple[tuple[int, int], ...]
    sentence: SourceSentence


def sentences_of(document: Document) -> list[SentenceMentions]:
    """Every sentence of a document with its mentions."""
    keys: list[list[tuple[int, int]]] = [[] for _ in document.sentences]
    spans: list[list[tuple[int, int]]] = [[] for _ in document.sentences]
    for e, entity in enumerate(document.entities):
        for n, mention in enumerate(entity):
            keys[mention.sent_id].append((e, n))
            spans[mention.sent_id].append((mention.start, mention.end))
    return [
        SentenceMentions(tuple(keys[s]), SourceSentence.of(tokens, spans[s]))
        for s, tokens in enumerate(document.sentences)
    ]
