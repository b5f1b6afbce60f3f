"""The linear model: hashed pair features, one weight per feature and relation, adaptive-threshold loss, Adam. No torch.

A baseline that a laptop trains in seconds. `LinearTraining` is the loop; an epoch is its unit and its checkpoint.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shared.relations.documents import Document
from workers.docre.adaptive_threshold import adaptive_threshold_loss
from workers.docre.features import closest, feature_matrix
from workers.docre.pairs import PairScores, Relations, label_matrix, ordered_pairs

BUCKETS = 2**16
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LinearModel:
    """W (buckets, R)."""

    weights: Floats

    def scores(self, document: Document) -> PairScores:
        x = feature_matrix(document, len(self.weights))
        return PairScores(np.asarray(x @ self.weights), closest_evidence(document))

    def scores_of(self, documents: Sequence[Document]) -> list[PairScores]:
        return [self.scores(document) for document in documents]


def closest_evidence(document: Document) -> NDArray[np.float64]:
    """(pairs, sentences): the sentences of the closest mentions share the evidence; a linear model knows no better."""
    pairs = ordered_pairs(document)
    evidence = np.zeros((len(pairs), len(document.sentences)))
    for row, (h, t) in enumerate(pairs.tolist()):
        near = closest(document, h, t)
        own = sorted({near.head.sent_id, near.tail.sent_id})
        evidence[row, own] = 1 / len(own)
    return evidence


class LinearTraining:
    """Adam over batches of documents; everything that the next epoch depends on is in `state_blobs`."""

    def __init__(self, documents: Sequence[Document], relations: Relations, learning_rate: float, batch: int) -> None:
        self._x = [feature_matrix(document, BUCKETS) for document in documents]
        self._y = [label_matrix(document, relations) for document in documents]
        self._rate, self._batch = learning_rate, batch
        shape = (BUCKETS, relations.size)
        self.weights = np.zeros(shape, np.float32)
        self._first, self._second = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.steps = 0

    @property
    def batches(self) -> int:
        """Per epoch."""
        return -(-len(self._x) // self._batch)

    def epoch(self, rng: np.random.Generator) -> float:
        """One pass in a drawn order; the mean loss over pairs. No document is dropped."""
        order = rng.permutation(len(self._x))
        losses, pairs = 0.0, 0
        for begin in range(0, len(order), self._batch):
            chosen = order[begin : begin + self._batch]
            x, y = sparse.vstack([self._x[n] for n in chosen]).tocsr(), np.concatenate([self._y[n] for n in chosen])
            if len(y):
                losses += self._step(x, y) * len(y)
                pairs += len(y)
        return losses / max(pairs, 1)

    def _step(self, x: Any, y: Floats) -> float:
        loss, by_logits = adaptive_threshold_loss(x @ self.weights, y)
        gradient = np.asarray(x.T @ by_logits.astype(np.float32), np.float32)
        self.steps += 1
        self._first *= BETA1
        self._first += (1 - BETA1) * gradient
        self._second *= BETA2
        np.square(gradient, out=gradient)
        self._second += (1 - BETA2) * gradient
        rate = self._rate * np.sqrt(1 - BETA2**self.steps) / (1 - BETA1**self.steps)
        np.sqrt(self._second, out=gradient)
        gradient += EPSILON
        np.divide(self._first, gradient, out=gradient)
        self.weights -= np.float32(rate) * gradient
        return loss

    def state_blobs(self) -> dict[str, bytes]:
        return {"adam.npz": packed_arrays(weights=self.weights, first=self._first, second=self._second)}

    def restore(self, adam: bytes, steps: int) -> None:
        arrays = unpacked_arrays(adam)
        self.weights, self._first, self._second = arrays["weights"], arrays["first"], arrays["second"]
        self.steps = steps


def packed_arrays(**arrays: NDArray[Any]) -> bytes:
    """Arrays as .npz."""
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def unpacked_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
