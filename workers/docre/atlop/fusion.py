"""Inference-stage fusion (DREEAM, after EIDER): a pair is scored again on its predicted evidence alone.

For each of a pair's top-4 labels with evidence, a pseudo-document of those sentences. Both scores above TH: accepted;
else their sum, a missing side counting −10, must exceed a threshold that is chosen for F1 on dev.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.relations.documents import Document, Mention
from workers.docre.model_file import Scorer, in_batches
from workers.docre.pairs import PairScores, ordered_pairs, pair_row

TOP = 4
MISSING = -10.0
NEVER = 1e9  # a threshold that nothing exceeds


class Relative(NamedTuple):
    """A label of a pair with its score relative to TH."""

    relation: int
    score: float


def relative_scores(scores: Sequence[float], classes: Sequence[int]) -> list[Relative]:
    """Top-4 scores, best first, minus the TH logit; where TH is not among them, minus (4th score − 1)."""
    base = scores[classes.index(0)] if 0 in classes else scores[-1] - 1.0
    return [Relative(r, s - base) for r, s in zip(classes, scores, strict=True)]


def top_scores(logits: NDArray[Any]) -> list[Relative]:
    """Of one pair, (R,)."""
    order = np.argsort(-logits, kind="stable")[:TOP]
    return relative_scores([float(logits[n]) for n in order], [int(n) for n in order])


def evidence_sentences(document: Document, head: int, tail: int, evidence: Sequence[int]) -> frozenset[int]:
    """The evidence, and the first sentence of head or tail where it has no mention in it; empty without evidence."""
    kept = set(evidence)
    for entity in (head, tail) if kept else ():
        own = [mention.sent_id for mention in document.entities[entity]]
        if kept.isdisjoint(own):
            kept.add(min(own))
    return frozenset(kept)


class Pseudo(NamedTuple):
    """Some sentences as a document of their own."""

    document: Document
    entities: dict[int, int]
    """Which of its entities each entity of the whole document is."""


def pseudo_document(document: Document, sentences: frozenset[int]) -> Pseudo:
    """All entities that have a mention there: marks stand where they stood in training."""
    renumbered = {sentence: n for n, sentence in enumerate(sorted(sentences))}
    entities: list[tuple[Mention, ...]] = []
    numbers: dict[int, int] = {}
    for number, entity in enumerate(document.entities):
        own = [
            replace(mention, sent_id=renumbered[mention.sent_id]) for mention in entity if mention.sent_id in sentences
        ]
        if own:
            numbers[number] = len(entities)
            entities.append(tuple(own))
    kept = tuple(document.sentences[n] for n in sorted(sentences))
    return Pseudo(Document(document.title, kept, tuple(entities)), numbers)


class FusedLabel(NamedTuple):
    """A label of a pair with both its scores relative to TH; None: not among the top 4."""

    row: int  # of ordered_pairs
    relation: int
    original: float | None
    pseudo: float | None

    @property
    def score(self) -> float:
        return fused(self.original, self.pseudo)


def fused_labels(
    document: Document, scores: PairScores, scorer: Scorer, evi_thresh: float, batch: int
) -> list[FusedLabel]:
    """Every pair's top labels, scored again on the pair's predicted evidence.

    Pairs of equal evidence share a pseudo-document: each set of sentences is encoded once.
    """
    pairs = ordered_pairs(document).tolist()
    rows_of: dict[frozenset[int], list[int]] = {}
    for row, (h, t) in enumerate(pairs):
        own = evidence_sentences(document, h, t, np.flatnonzero(scores.evidence[row] > evi_thresh).tolist())
        rows_of.setdefault(own, []).append(row)
    parts = {own: pseudo_document(document, own) for own in rows_of if own}
    answers = dict(zip(parts, in_batches(scorer, [part.document for part in parts.values()], batch), strict=True))
    found = []
    for own, rows in rows_of.items():
        for row in rows:
            again = {}
            if own:
                h, t = (parts[own].entities[entity] for entity in pairs[row])
                again = _labels(answers[own].logits[pair_row(h, t, len(parts[own].entities))])
            first = _labels(scores.logits[row])
            found += [FusedLabel(row, r, first.get(r), again.get(r)) for r in sorted(first.keys() | again.keys())]
    return sorted(found, key=lambda label: (label.row, label.relation))


def _labels(logits: NDArray[Any]) -> dict[int, float]:
    """The relations among a pair's top scores."""
    return {label.relation: label.score for label in top_scores(logits) if label.relation}


def fused(original: float | None, pseudo: float | None) -> float:
    """The sum; infinity where both accept. A missing side counts −10."""
    if original is not None and pseudo is not None and original > 0 and pseudo > 0:
        return math.inf
    return (MISSING if original is None else original) + (MISSING if pseudo is None else pseudo)


def best_threshold(scores: Sequence[float], is_gold: Sequence[bool], gold: int) -> float:
    """The cut of the best F1: accept `score > threshold`. It is a number of its own and never looks at gold again."""
    order = sorted(range(len(scores)), key=lambda n: -scores[n])
    best, cut, hits = -1.0, NEVER, 0
    for shown, n in enumerate(order, start=1):
        hits += is_gold[n]
        f1 = 2 * hits / (shown + gold) if shown + gold else 0.0
        lower = scores[order[shown]] if shown < len(order) else scores[n] - 1.0
        if lower != scores[n] and f1 > best:
            best, cut = f1, lower if scores[n] == math.inf else (scores[n] + lower) / 2
    return cut
