"""Entities and the context of a pair, from an encoder's states and attentions.

h_e = logsumexp over mentions of H[start]; A_e = mean over mentions of the attention at start, (heads, L);
q = mean over heads of A_h ⊙ A_t, normalised; c = Hᵀ q: localized context pooling.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ATLOP_EPSILON = 1e-5
DREEAM_EPSILON = 1e-30


class Pooled(NamedTuple):
    """Of one document's pairs."""

    heads: Tensor  # (pairs, d)
    tails: Tensor  # (pairs, d)
    contexts: Tensor  # (pairs, d)
    attention: Tensor  # q, (pairs, L)


def pool(states: Tensor, attention: Tensor, entities: Sequence[Sequence[int]], pairs: Tensor, epsilon: float) -> Pooled:
    """states (L, d), attention (heads, L, L), entities: each mention's position, pairs (n, 2).

    A mention past the end of a cut document is no mention; an entity of none is a vector of zeros.
    """
    embeddings, attentions = [], []
    length = len(states)
    for mentions in entities:
        inside = torch.tensor([at for at in mentions if at < length], dtype=torch.long, device=states.device)
        if len(inside):
            embeddings.append(torch.logsumexp(states[inside], dim=0))
            attentions.append(attention[:, inside].mean(dim=1))
        else:
            embeddings.append(states.new_zeros(states.shape[1]))
            attentions.append(attention.new_zeros(attention.shape[0], length))
    e, a = torch.stack(embeddings), torch.stack(attentions)  # (n, d), (n, heads, L)
    head, tail = pairs[:, 0], pairs[:, 1]
    q = (a[head] * a[tail]).mean(dim=1)
    q = q / (q.sum(dim=1, keepdim=True) + epsilon)
    return Pooled(e[head], e[tail], q @ states, q)
