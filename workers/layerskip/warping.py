"""From logits to what a token is chosen by: n-gram ban → temperature → top-k → top-p, the same for draft and target."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen."""

    sample: bool = False
    temperature: float = 0.6
    top_p: float = 0.9
    top_k: int = 0
    no_repeat_ngram_size: int = 0

    @property
    def is_greedy(self) -> bool:
        return not self.sample or self.temperature == 0

    @property
    def needs_history(self) -> bool:
        return self.no_repeat_ngram_size > 0

    def allowed(self, logits: Tensor, history: Sequence[int]) -> Tensor:
        """logits (V,) with what would repeat an n-gram of the true prefix at −∞."""
        banned = repeated(history, self.no_repeat_ngram_size)
        if not banned:
            return logits
        logits = logits.clone()
        logits[banned] = float("-inf")
        return logits

    def probabilities(self, logits: Tensor, history: Sequence[int]) -> Tensor:
        """The distribution (V,) that a sampled token comes from, in float32 on the CPU."""
        logits = self.allowed(logits.float().cpu(), history) / self.temperature
        if 0 < self.top_k < len(logits):
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[-1], float("-inf"))
        probabilities = torch.softmax(logits, -1)
        return nucleus(probabilities, self.top_p) if self.top_p < 1 else probabilities

    def best(self, logits: Tensor, history: Sequence[int]) -> int:
        """The likeliest allowed token."""
        return int(self.allowed(logits, history).argmax())


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The smallest set of likeliest tokens whose mass reaches top_p, normed (Holtzman et al., arXiv 1904.09751)."""
    ranked, order = probabilities.sort(descending=True, stable=True)
    before = ranked.cumsum(-1) - ranked  # mass of likelier tokens
    kept = torch.zeros_like(probabilities)
    kept[order] = torch.where(before < top_p, ranked, 0.0)
    return kept / kept.sum()


def repeated(history: Sequence[int], n: int) -> list[int]:
    """Tokens that would complete an n-gram which the history already has."""
    if n == 0 or len(history) < n:
        return []
    tail = tuple(history[len(history) - n + 1 :])
    return [
        history[start + n - 1] for start in range(len(history) - n + 1)
        if tuple(history[start : start + n - 1]) == tail
    ]  # fmt: skip
