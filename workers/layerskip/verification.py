"""Which drafted tokens stand (sections 2.3 and 2.4 of the specification's reading of the paper).

Greedy: those that the whole model would have said. Sampled: the rejection rule of Leviathan et al. (arXiv 2211.17192),
after which the emitted tokens are distributed exactly as the whole model's. Here q is the draft's distribution (after
E layers), p the whole model's, both warped alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Verified(NamedTuple):
    """Outcome of one step."""

    accepted: int  # m, how many drafts stand
    next_token: int  # v_m, or a sample after the accepted drafts


def keep_greedy(drafts: Sequence[int], targets: Sequence[int]) -> Verified:
    """targets (k + 1): what the whole model says at each row; the last one is the bonus token."""
    accepted = 0
    while accepted < len(drafts) and drafts[accepted] == targets[accepted]:
        accepted += 1
    return Verified(accepted, targets[accepted])


def acceptance(p: Tensor, q: Tensor) -> Tensor:
    """Expected acceptance Σ_x min(p(x), q(x)) of each row (…, V) → (…)."""
    return torch.minimum(p, q).sum(-1)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """norm(max(p − q, 0)) (V,): what is left once a draft is refused; p itself where rounding leaves nothing."""
    gap = (p - q).clamp(min=0.0)
    total = gap.sum()
    return gap / total if total > 0 else p


def keep_sampled(drafts: Sequence[int], p: Tensor, q: Tensor, rng: torch.Generator) -> Verified:
    """p (k + 1, V), q (k, V). Accept draft i with min(1, p_i / q_i); at the first refusal draw from the residual."""
    for number, draft in enumerate(drafts):
        chance = float(p[number, draft]) / float(q[number, draft])  # q is above 0: the token was drawn from it
        if float(torch.rand((), generator=rng)) >= chance:
            return Verified(number, drawn(residual(p[number], q[number]), rng))
    return Verified(len(drafts), drawn(p[len(drafts)], rng))


def drawn(probabilities: Tensor, rng: torch.Generator) -> int:
    """A token of a distribution (V,), by inversion at one uniform number."""
    running = probabilities.double().cumsum(-1)
    at = int(torch.searchsorted(running, torch.rand(1, generator=rng, dtype=torch.float64) * running[-1], right=True))
    return min(at, int(probabilities.nonzero()[-1]))  # rounding must not leave the set
