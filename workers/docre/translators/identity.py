"""The engine that copies: the same path as any other, with nothing translated. Controls and tests use it."""

from collections.abc import Sequence

from workers.docre.projection import Piece
from workers.docre.translators import EngineInfo, Marks, Segment, Translated, text_of


class IdentityTranslator:
    """Copies text and knows where each run went."""

    info = EngineInfo("identity", {"identity": "1"})
    marks: Marks = "provenance"

    def translate(self, segments: Sequence[Segment]) -> list[Translated]:
        return [self._copy(segment) for segment in segments]

    def _copy(self, segment: Segment) -> Translated:
        pieces, at = [], 0
        for chunk in segment:
            if chunk.run is not None:
                pieces.append(Piece(at, at + len(chunk.text), frozenset({chunk.run})))
            at += len(chunk.text)
        text = text_of(segment)
        return Translated(text, raw=text, pieces=tuple(pieces))
