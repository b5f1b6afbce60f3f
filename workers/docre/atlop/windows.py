"""Encoding of more word pieces than an encoder takes: two windows, the overlap averaged.

The first window is [0, W − e) and the end tokens, the second the start tokens and [L − W + s, L). Where both cover a
position, hidden states are averaged, and attention rows are added and normalised again.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Encoded(NamedTuple):
    """One document: states (L, d), attention (heads, L, L)."""

    states: Tensor
    attention: Tensor


Encode = Callable[[Tensor], Encoded]
"""(W,) token ids to states and attention."""


class Specials(NamedTuple):
    """Start and end tokens around a text."""

    start: list[int]
    end: list[int]


def encode(ids: Tensor, run: Encode, specials: Specials, window: int = 512) -> Encoded:
    """ids (L,) with its start and end tokens, L ≤ 2 · window minus specials."""
    return joined(len(ids), [run(part) for part in cut(ids, specials, window)], specials, window)


def cut(ids: Tensor, specials: Specials, window: int) -> list[Tensor]:
    """The text as one window, or as two."""
    length = len(ids)
    if length <= window:
        return [ids]
    s, e = len(specials.start), len(specials.end)
    first = torch.cat([ids[: window - e], ids.new_tensor(specials.end)])
    second = torch.cat([ids.new_tensor(specials.start), ids[length - window + s :]])
    return [first, second]


def joined(length: int, parts: Sequence[Encoded], specials: Specials, window: int) -> Encoded:
    """The whole text's encoding from its windows'."""
    if len(parts) == 1:
        return parts[0]
    first, second = parts
    s, e = len(specials.start), len(specials.end)
    shift = length - window  # where the second window's position 0 would stand
    states = first.states.new_zeros(length, first.states.shape[1])
    covered = first.states.new_zeros(length)
    attention = first.attention.new_zeros(len(first.attention), length, length)
    for encoded, part, at in ((first, slice(0, window - e), 0), (second, slice(s, window), shift)):
        to = slice(at + part.start, at + part.stop)
        states[to] += encoded.states[part]
        covered[to] += 1
        attention[:, to, to] += encoded.attention[:, part, part]
    attention = attention / (attention.sum(dim=-1, keepdim=True) + 1e-10)
    return Encoded(states / covered[:, None], attention)
