"""Candidates of one step: each replaces one token of the suffix by one of its position's top k."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

SMALLEST_NORM = 1e-12


def forbidden_tokens(tokenizer: Any, vocabulary: int, *, allow_non_ascii: bool) -> Tensor:
    """(V,) True where a token may not stand in a suffix: special ones, ids the tokenizer lacks, and by default every
    token whose text is not ASCII and printable."""
    forbidden = torch.zeros(vocabulary, dtype=torch.bool)
    special = {id for id, added in tokenizer.added_tokens_decoder.items() if added.special}
    forbidden[[id for id in {*tokenizer.all_special_ids, *special} if id < vocabulary]] = True
    known = min(vocabulary, len(tokenizer))
    forbidden[known:] = True
    if not allow_non_ascii:
        texts = tokenizer.batch_decode([[id] for id in range(known)], clean_up_tokenization_spaces=False)
        forbidden[[id for id, text in enumerate(texts) if not (text.isascii() and text.isprintable())]] = True
    return forbidden


def positions(length: int, batch: int) -> list[int]:
    """Which position candidate i replaces: ⌊i L / B⌋, in integers (a float range has B + 1 entries for some pairs)."""
    return [i * length // batch for i in range(batch)]


def normalised(gradient: Tensor) -> Tensor:
    """Each row of G (L, V) divided by its norm; a zero row stays zero."""
    norms: Tensor = gradient.norm(dim=-1, keepdim=True)
    return gradient / norms.clamp(min=SMALLEST_NORM)


def top_tokens(gradient: Tensor, forbidden: Tensor, k: int) -> Tensor:
    """The k tokens per position with the most negative gradient, (L, min(k, allowed))."""
    allowed = int((~forbidden).sum())
    masked = gradient.masked_fill(forbidden, float("inf"))
    return torch.topk(-masked, min(k, allowed), dim=-1).indices


def draw(suffix: Sequence[int], top: Tensor, batch: int, generator: torch.Generator) -> list[tuple[int, ...]]:
    """`batch` candidates in position order, one replacement each; without the suffix itself and without repeats."""
    at = positions(len(suffix), batch)
    chosen = torch.randint(0, top.shape[1], (batch,), generator=generator)
    tokens = top.cpu()[at, chosen].tolist()
    drawn = {(*suffix[:place], token, *suffix[place + 1 :]): None for place, token in zip(at, tokens, strict=True)}
    drawn.pop(tuple(suffix), None)
    return list(drawn)
