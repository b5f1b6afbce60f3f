"""Defences, each around one answerer: perplexity filters, SmoothLLM, erase-and-check. Pure functions of text and model.

Perplexity (arXiv 2309.00614, 2308.14132), SmoothLLM (2310.03684), erase-and-check in suffix mode (2309.02705).
"""

import string
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from workers.dsn.phrases import is_refusal

PRINTABLE = string.printable
MAJORITY = 0.5


class Nll(NamedTuple):
    """Of a user's text under the reference model, nats per token."""

    mean: float
    windowed: float  # the largest mean over windows of so many tokens; a shorter text is one window


@torch.inference_mode()
def negative_log_likelihood(model: Any, tokenizer: Any, text: str, window: int) -> Nll:
    """Mean token NLL of a text; the first token counts where the tokenizer has a BOS to put before it."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id, *ids]
    if len(ids) < 2:
        return Nll(0.0, 0.0)
    row = torch.tensor([ids], device=model.device)
    log_p = model(input_ids=row, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    nll = -log_p.gather(-1, row[0, 1:, None]).squeeze(-1).double().cpu().numpy()
    means = np.convolve(nll, np.ones(window) / window, "valid") if len(nll) >= window else np.array([nll.mean()])
    return Nll(float(nll.mean()), float(means.max()))


def threshold(values: Sequence[float], quantile: float) -> float:
    """The q-quantile of the clean texts' values (1: their maximum); what is above it is blocked."""
    return float(np.quantile(np.asarray(values), quantile))


def perturbed(text: str, q: float, kind: str, rng: np.random.Generator) -> str:
    """int(len · q/100) characters changed: swap at drawn places, patch a run of them, insert; token: whole words drawn
    from the text's own, for tokenizers of words."""
    if kind == "token":
        return _words_replaced(text, q, rng)
    count = int(len(text) * q / 100)
    new = [PRINTABLE[i] for i in rng.integers(len(PRINTABLE), size=count)]
    characters = list(text)
    if kind == "patch":
        start = int(rng.integers(len(text) - count + 1))
        return text[:start] + "".join(new) + text[start + count :]
    places = sorted(rng.choice(len(text), size=count, replace=False).tolist(), reverse=kind == "insert")
    for place, character in zip(places, new, strict=True):
        if kind == "insert":
            characters.insert(place, character)
        else:
            characters[place] = character
    return "".join(characters)


def _words_replaced(text: str, q: float, rng: np.random.Generator) -> str:
    words = text.split()
    count = max(1, int(len(words) * q / 100)) if q else 0
    for place in rng.choice(len(words), size=min(count, len(words)), replace=False).tolist():
        words[place] = words[int(rng.integers(len(words)))]
    return " ".join(words)


def smooth_vote(answers: Sequence[str], phrases: Sequence[str], rng: np.random.Generator) -> str:
    """SmoothLLM's answer: broken iff more than half of the copies are, by keywords; one of those that agree, drawn."""
    broken = [not is_refusal(answer, phrases) for answer in answers]
    verdict = sum(broken) / len(broken) > MAJORITY
    agreeing = [answer for answer, one in zip(answers, broken, strict=True) if one is verdict]
    return agreeing[int(rng.integers(len(agreeing)))]


def erased(tokenizer: Any, text: str, d: int) -> list[str]:
    """The text with its last 0..d tokens erased, as long as something is left."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [text, *(tokenizer.decode(ids[:-n]).strip() for n in range(1, min(d, len(ids) - 1) + 1))]
