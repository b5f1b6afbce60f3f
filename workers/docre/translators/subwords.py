"""Which characters each subword stands for, and attention over subwords as an alignment of characters."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.relations.text import Span

Alignment = tuple[tuple[Span, Span], ...]


class Subwords(NamedTuple):
    """Decoded text and each subword's characters in it; special tokens have empty spans."""

    text: str
    spans: tuple[Span, ...]


def subwords(tokenizer: Any, ids: Sequence[int]) -> Subwords:
    """By decoding ever longer beginnings: true of any tokenizer."""
    lengths = [0]
    for end in range(1, len(ids) + 1):
        lengths.append(max(lengths[-1], len(decoded(tokenizer, ids[:end]))))
    text = decoded(tokenizer, ids)
    ends = [min(length, len(text)) for length in lengths]
    return Subwords(text, tuple(Span(a, b) for a, b in pairwise(ends)))


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()


def align(source: Subwords, target: Subwords, attention: NDArray[Any], text: str) -> Alignment | None:
    """Each target subword with the source subword it attends to most. attention (target, source).

    None where the tokenizer changed the source text: its characters are then not ours.
    """
    if source.text != text.strip():
        return None
    shift = len(text) - len(text.lstrip())
    is_text = np.array([span.start < span.end for span in source.spans])
    if not is_text.any():
        return None
    best = np.where(is_text[None, : attention.shape[1]], attention, -1.0).argmax(axis=1)
    return tuple(
        (Span(source.spans[s].start + shift, source.spans[s].end + shift), span)
        for span, s in zip(target.spans, best.tolist(), strict=False)
        if span.start < span.end
    )
