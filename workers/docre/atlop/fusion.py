"""Inference-stage fusion (DREEAM, after EIDER): a pair is scored again on its predicted evidence alone.

For each of a pair's top-4 labels with evidence, a pseudo-document of those sentences. Both scores above TH: accepted;
else their sum, a missing side counting −10, must exceed a threshold that is chosen for F1 on dev.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.relations.documents import Document, Mention

TOP = 4
MISSING = -10.0


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


def pseudo_document(document: Document, head: int, tail: int, evidence: Sequence[int]) -> Document | None:
    """The evidence sentences, and the first sentence of head or tail where it has no mention in them."""
    kept = set(evidence)
    if not kept:
        return None
    for entity in (head, tail):
        if not any(mention.sent_id in kept for mention in document.entities[entity]):
            kept.add(min(mention.sent_id for mention in document.entities[entity]))
    renumbered = {sentence: n for n, sentence in enumerate(sorted(kept))}
    entities = tuple(
        tuple(
            Mention(m.name, renumbered[m.sent_id], m.start, m.end, m.type)
            for m in document.entities[entity]
            if m.sent_id in renumbered
        )
        for entity in (head, tail)
    )
    return Document(document.title, tuple(document.sentences[n] for n in sorted(kept)), entities)


def fused(original: float | None, pseudo: float | None) -> float:
    """The sum; infinity where both accept. A missing side counts −10."""
    if original is not None and pseudo is not None and original > 0 and pseudo > 0:
        return float("inf")
    return (MISSING if original is None else original) + (MISSING if pseudo is None else pseudo)


def best_threshold(scores: Sequence[float], is_gold: Sequence[bool], gold: int) -> float:
    """The cut of the best F1: accept `score > threshold`."""
    order = sorted(range(len(scores)), key=lambda n: -scores[n])
    best, cut, hits = -1.0, float("inf"), 0
    for shown, n in enumerate(order, start=1):
        hits += is_gold[n]
        f1 = 2 * hits / (shown + gold) if shown + gold else 0.0
        is_last_of_equals = shown == len(order) or scores[order[shown]] != scores[n]
        if is_last_of_equals and f1 > best:
            best = f1
            cut = (scores[n] + scores[order[shown]]) / 2 if shown < len(order) else scores[n] - 1.0
    return cut
