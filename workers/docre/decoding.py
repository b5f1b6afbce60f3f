"""From pair scores to predictions, and the margin over TH that gives the best F1."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.metrics.relations import Key, Prediction
from shared.relations.documents import Document
from workers.docre.adaptive_threshold import decode, margins
from workers.docre.pairs import PairScores, Relations, label_matrix, ordered_pairs

EVIDENCE_THRESHOLD = 0.2


class Point(NamedTuple):
    """Precision and recall at one margin."""

    margin: float
    p: float
    r: float
    f1: float


def predictions_of(
    document: Document, scores: PairScores, relations: Relations, num_labels: int, margin: float, evi_thresh: float
) -> list[Prediction]:
    """The relations above TH + margin, each with its pair's evidence."""
    pairs = ordered_pairs(document)
    chosen = decode(scores.logits, num_labels, margin)[:, 1:]
    return [
        Prediction(
            Key(document.title, int(pairs[row, 0]), int(pairs[row, 1]), relations.ids[r]),
            evidence_of(scores, row, evi_thresh),
        )
        for row, r in zip(*np.nonzero(chosen), strict=True)
    ]


class FusedLabel(Protocol):
    """A relation of a pair with the score that fusion gives it."""

    @property
    def row(self) -> int: ...
    @property
    def relation(self) -> int: ...
    @property
    def score(self) -> float: ...


def fused_predictions(
    document: Document,
    scores: PairScores,
    labels: Iterable[FusedLabel],
    relations: Relations,
    threshold: float,
    evi_thresh: float,
) -> list[Prediction]:
    """The labels that fusion accepts: both scores above TH, or their sum above the threshold."""
    pairs = ordered_pairs(document)
    return [
        Prediction(
            Key(document.title, int(pairs[label.row, 0]), int(pairs[label.row, 1]), relations.ids[label.relation - 1]),
            evidence_of(scores, label.row, evi_thresh),
        )
        for label in labels
        if label.score > threshold
    ]


def evidence_of(scores: PairScores, row: int, evi_thresh: float = EVIDENCE_THRESHOLD) -> tuple[int, ...]:
    """Sentences with s_i above the threshold."""
    return tuple(int(n) for n in np.flatnonzero(scores.evidence[row] > evi_thresh))


class Ranked(NamedTuple):
    """Every candidate of a test set, best margin first: what P–R curves and calibration are made of."""

    margins: NDArray[np.float64]
    is_gold: NDArray[np.bool_]
    gold: int


def ranked(
    documents: Sequence[Document], scores: Mapping[int, PairScores], relations: Relations, num_labels: int = 4
) -> Ranked:
    """The top `num_labels` relations of each pair; gold counts labels of unknown relations too."""
    found, gold = [], []
    for n, document in enumerate(documents):
        logits = scores[n].logits
        if len(logits):
            k = min(num_labels, logits.shape[1])
            cut = np.partition(logits, -k, axis=1)[:, -k][:, None]
            top = (logits >= cut)[:, 1:]
            found.append(margins(logits)[top])
            gold.append(label_matrix(document, relations)[:, 1:][top] > 0)
    total = sum(len(document.triples) for document in documents)
    if not found:
        return Ranked(np.zeros(0), np.zeros(0, np.bool_), total)
    m, g = np.concatenate(found).astype(np.float64), np.concatenate(gold)
    order = np.argsort(-m, kind="stable")
    return Ranked(m[order], g[order], total)


def curve(all_: Ranked) -> list[Point]:
    """Precision and recall at every margin that lets one more through."""
    if not len(all_.margins) or not all_.gold:
        return []
    hits = np.cumsum(all_.is_gold)
    shown = np.arange(1, len(hits) + 1)
    ends = np.flatnonzero(np.append(all_.margins[1:] != all_.margins[:-1], True))
    p, r = hits[ends] / shown[ends], hits[ends] / all_.gold
    f1 = np.divide(2 * p * r, p + r, out=np.zeros_like(p), where=p + r > 0)
    below = np.append(all_.margins, all_.margins[-1] - 1.0)[ends + 1]
    between = (all_.margins[ends] + below) / 2  # half-way to the next: no rounding decides
    return [Point(*map(float, each)) for each in zip(between, p, r, f1, strict=True)]


def best_margin(points: Sequence[Point]) -> Point | None:
    """The point of the best F1, the highest margin on a tie."""
    return max(points, key=lambda point: (point.f1, point.margin)) if points else None


def thinned(points: Sequence[Point], most: int = 200) -> list[Point]:
    """Evenly spaced by rank, for figures."""
    if len(points) <= most:
        return list(points)
    chosen: list[Any] = np.linspace(0, len(points) - 1, most).round().astype(int).tolist()
    return [points[n] for n in chosen]
