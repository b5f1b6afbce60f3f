"""The losses: an affirmative beginning whose weight decays, and no refusal phrase anywhere in the window.

Target tokens t_0..t_{T−1}; the window is the P = T + 1 rows of logits that predict them and the token after them.
Target loss (1/T) Σ_j w_j CE_j; unlikelihood u(r, v) = −log(1 − min(p_r(v), 0.99)); the refusal loss is the mean over
all keywords k and start rows a with a + K ≤ P of (1/K) Σ_i u(a + i, k_i). DSN = target loss + α · refusal loss; GCG is
no decay and α = 0. As in the official code, the decay weights each token's CE (written inside the product of
probabilities, as the poster prints it, it would change no gradient).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST_P = 0.99


def decay_weights(length: int) -> Tensor:
    """w_j = 0.5 + 0.5 cos(π/2 · j/(T − 1)): from 1 at the first token to 0.5 at the last. Shape (T,)."""
    if length == 1:
        return torch.ones(1)
    return torch.tensor([0.5 + 0.5 * math.cos(math.pi / 2 * j / (length - 1)) for j in range(length)])


def unlikelihood(log_p: Tensor) -> Tensor:
    """u = −log(1 − min(p, 0.99)), from log p, in float32."""
    return -torch.log1p(-log_p.float().exp().clamp(max=LARGEST_P))


def unlikelihood_with_gradient(log_p: Tensor) -> Tensor:
    """The same value; where p > 0.99 the gradient is that at 0.99 and not zero (straight through the clamp)."""
    p = log_p.float().exp()
    return -torch.log1p(-(p + (p.clamp(max=LARGEST_P) - p).detach()))


@dataclass(frozen=True)
class RefusalWeights:
    """W of one window length: refusal loss = Σ_{r, v ∈ U} W[r, v] u(r, v). ΣW is 1, or 0 where no keyword fits."""

    tokens: Tensor  # U, sorted unique keyword tokens (U,)
    weights: Tensor  # W (P, U)
    pairs: int  # (keyword, start row) pairs that the mean is over

    @classmethod
    def build(cls, keywords: Sequence[Sequence[int]], rows: int) -> "RefusalWeights":
        """W[r, v] = Σ over pairs (k, a) and i with a + i = r and k_i = v of 1/(K · n_pairs)."""
        tokens = sorted({token for keyword in keywords for token in keyword})
        column = {token: number for number, token in enumerate(tokens)}
        pairs = sum(max(0, rows - len(keyword) + 1) for keyword in keywords)
        weights = torch.zeros(rows, len(tokens), dtype=torch.float64)
        for keyword in keywords:
            starts = max(0, rows - len(keyword) + 1)
            for i, token in enumerate(keyword):
                weights[i : i + starts, column[token]] += 1 / (len(keyword) * pairs) if pairs else 0.0
        return cls(torch.tensor(tokens, dtype=torch.long), weights.float(), pairs)

    def to(self, device: torch.device | str) -> "RefusalWeights":
        return RefusalWeights(self.tokens.to(device), self.weights.to(device), self.pairs)


class Losses(NamedTuple):
    """Of a batch of candidates, each (batch,)."""

    target: Tensor
    refusal: Tensor

    def total(self, alpha: float) -> Tensor:
        return self.target + alpha * self.refusal if alpha else self.target


def window_losses(
    logits: Tensor, target: Tensor, decay: Tensor, refusal: RefusalWeights | None, *, with_gradient: bool = False
) -> Losses:
    """Both losses of windows of logits (batch, P, V) that teacher-force the target (T,), in float32.

    Without refusal weights the refusal loss is zero.
    """
    log_norm = torch.logsumexp(logits.float(), -1)  # (batch, P)
    length = len(target)
    chosen = logits[:, :length].gather(-1, target.expand(len(logits), -1)[..., None]).squeeze(-1).float()
    cross_entropy = log_norm[:, :length] - chosen
    target_loss = (cross_entropy * decay).sum(-1) / length
    if refusal is None or not refusal.pairs:
        return Losses(target_loss, torch.zeros_like(target_loss))
    log_p = logits[..., refusal.tokens].float() - log_norm[..., None]  # (batch, P, U)
    u = unlikelihood_with_gradient(log_p) if with_gradient else unlikelihood(log_p)
    return Losses(target_loss, (u * refusal.weights).sum((-1, -2)))
