"""The adaptive threshold and evidence losses in torch; symbols as in `adaptive_threshold` and DREEAM."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.docre.adaptive_threshold import MASKED, TH

ZERO = 1e-30


def adaptive_threshold(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over pairs. logits, labels (pairs, R); the labels' class 0 is not read, and nothing is changed."""
    positive = labels.bool().clone()
    positive[:, TH] = False
    with_th = positive.clone()
    with_th[:, TH] = True
    log_p = torch.log_softmax(logits.masked_fill(~with_th, MASKED), dim=1)
    log_n = torch.log_softmax(logits.masked_fill(positive, MASKED), dim=1)
    return -(torch.where(positive, log_p, 0.0).sum(dim=1) + log_n[:, TH]).mean()


def sentence_attention(q: Tensor, sentences: Sequence[tuple[int, int]]) -> Tensor:
    """s_i = Σ q over the tokens [start, end) of sentence i, (pairs, S)."""
    if not sentences:
        return q.new_zeros(len(q), 0)
    return torch.stack([q[:, start:end].sum(dim=1) for start, end in sentences], dim=1)


def evidence_loss(s: Tensor, gold: Tensor, has_relation: Tensor, *, compat: bool = False) -> Tensor:
    """KL(v ‖ s) summed over pairs, divided by the pairs that have a relation.

    s (pairs, S); gold (pairs, S) counts of annotations; v is gold normalised. The official code leaves pairs that have
    a relation but no evidence in the divisor, where they dilute the loss; here they are out of it unless `compat`.
    """
    has_evidence = gold.sum(dim=1) > 0
    counted = has_relation.bool() & (has_evidence | compat)
    if not bool(counted.any()):
        return s.sum() * 0.0
    v = gold / gold.sum(dim=1, keepdim=True).clamp(min=1.0)
    v, s = v.clamp(min=ZERO)[has_relation.bool()], s.clamp(min=ZERO)[has_relation.bool()]
    keep = counted[has_relation.bool()]
    divergence = (v * (v.log() - s.log())).sum(dim=1)
    return divergence[keep].sum() / counted.sum()


def attention_loss(q: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ q) over tokens, mean over pairs: DREEAM's self-training on data without evidence."""
    t, q = teacher.clamp(min=ZERO), q.clamp(min=ZERO)
    return (t * (t.log() - q.log())).sum(dim=1).mean()
