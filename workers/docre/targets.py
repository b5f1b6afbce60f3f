"""What a marking strategy gives: a translated sentence, and where its mentions stand in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.docre.projection import Piece, Placed, project
from workers.docre.runs import SourceSentence
from workers.docre.translators import Translated, Translator, WordCount


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
    words: WordCount | None = None

    @classmethod
    def of(cls, answer: Translated, placed: Sequence[Placed]) -> "TargetSentence":
        return cls(answer.text, tuple(placed), answer.error, answer.raw, answer.words)


Place = Callable[[Sequence[SourceSentence], Translator, Rules], list[TargetSentence]]


def by_pieces(sentence: SourceSentence, answer: Translated, pieces: Sequence[Piece], rules: Rules) -> TargetSentence:
    """Every mention from the pieces of its runs."""
    spans = [project(answer.text, pieces, runs, rules.max_gap_words) for runs in sentence.runs_by_mention]
    return TargetSentence.of(answer, spans)
