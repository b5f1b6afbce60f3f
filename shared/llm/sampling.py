"""Drawing the next token of each row of a batch, every row by its own temperature, nucleus and random number."""

import torch
from torch import Tensor


def next_tokens(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """The next token of every row (batch,), from logits (batch, vocab) and a number in [0, 1) per row (batch,).

    Temperature 0 takes the likeliest token. Otherwise the distribution is inverted at `uniform`, so a row's token
    depends on its own logits and number alone. Nucleus sampling (Holtzman et al., arXiv 1904.09751) keeps the smallest
    set of likeliest tokens whose probability reaches `top_p`.
    """
    tokens = logits.argmax(-1)
    # Each row by its own rule, whatever the others' are: the order of inversion decides which token a number means.
    for draw, rows in ((_draw, (temperature > 0) & (top_p >= 1)), (_draw_nucleus, (temperature > 0) & (top_p < 1))):
        if bool(rows.any()):
            probabilities = torch.softmax(logits[rows].float() / temperature[rows, None], -1)
            tokens[rows] = draw(probabilities, top_p[rows], uniform[rows])
    return tokens


def _draw(probabilities: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    return _invert(probabilities, uniform)


def _draw_nucleus(probabilities: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ranked.cumsum(-1) - ranked  # mass of likelier tokens
    kept = torch.where(before < top_p[:, None], ranked, 0.0)
    at = _invert(kept, uniform)
    tokens: Tensor = order.gather(-1, at[:, None]).squeeze(-1)
    return tokens


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """The first index where the running sum of weights (batch, vocab) exceeds uniform · total."""
    running = weights.double().cumsum(-1)
    at = torch.searchsorted(running, uniform[:, None] * running[:, -1:], right=True).squeeze(-1)
    last = weights.shape[-1] - 1 - (weights > 0).flip(-1).to(torch.int8).argmax(-1)  # rounding must not leave the set
    return torch.minimum(at, last)
