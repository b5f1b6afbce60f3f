"""The adaptive threshold of ATLOP (Zhou et al., arXiv 2010.11304): class 0, TH, is a threshold that each pair learns.

Positives P are to score above TH, negatives N below it:

    L = −Σ_{r∈P} log( e^{l_r} / Σ_{P∪{TH}} e^l ) − log( e^{l_TH} / Σ_{N∪{TH}} e^l )

averaged over pairs. Here in NumPy with its gradient, for the linear model; `atlop.losses` has it in torch.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
TH = 0
MASKED = -1e30


class LossAndGradient(NamedTuple):
    """Mean loss, and its derivative by the logits (pairs, R)."""

    loss: float
    gradient: Floats


def adaptive_threshold_loss(logits: Floats, labels: Floats) -> LossAndGradient:
    """logits (pairs, R), labels (pairs, R) of 0 and 1. The labels' class 0 is not read; nothing is changed."""
    positive = labels.astype(bool).copy()
    positive[:, TH] = False
    over = positive.copy()
    over[:, TH] = True
    log_p, p = _log_softmax(logits, over)
    log_n, n = _log_softmax(logits, ~positive)
    count = positive.sum(axis=1, keepdims=True)
    loss = -(np.where(positive, log_p, 0.0).sum(axis=1) + log_n[:, TH])
    gradient = count * p - positive + n
    gradient[:, TH] -= 1.0
    return LossAndGradient(float(loss.mean()), gradient / len(logits))


def _log_softmax(logits: Floats, among: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Over the classes marked in `among`; the others get probability 0."""
    masked = np.where(among, logits, MASKED)
    shifted = masked - masked.max(axis=1, keepdims=True)
    exp = np.where(among, np.exp(shifted), 0.0)
    total = exp.sum(axis=1, keepdims=True)
    return shifted - np.log(total), exp / total


def margins(logits: Floats) -> Floats:
    """l_r − l_TH, (pairs, R − 1): by how much each relation is above the pair's threshold."""
    result: Floats = logits[:, 1:] - logits[:, :1]
    return result


def decode(logits: Floats, num_labels: int | None = 4, margin: float = 0.0) -> NDArray[np.bool_]:
    """(pairs, R): relations above TH + margin, at most those not below the `num_labels`-th largest of all logits.

    The comparison includes TH, and ties let more through, as in the official code. No relation: class 0.
    """
    chosen: NDArray[np.bool_] = logits > logits[:, :1] + margin
    if num_labels is not None and num_labels > 0:
        k = min(num_labels, logits.shape[1])
        chosen &= logits >= np.partition(logits, -k, axis=1)[:, -k][:, None]
    chosen[:, TH] = ~chosen[:, 1:].any(axis=1)
    return chosen
