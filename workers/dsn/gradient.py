"""Candidate gradients: d loss / d one-hot of the suffix, summed over prompts (GCG, arXiv 2307.15043, equation 4).

One-hot times embedding matrix is linear, so G = (d loss / d suffix embeddings) Eᵀ; E is what the embedding layer gives
for every token, scaled as the model scales it. What precedes the suffix comes from the attention cache.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workers.dsn.memory import halved
from workers.dsn.prefix import expanded
from workers.dsn.prompts import Objective, Prompt, same_shapes, shared_cache, window_logits


class CandidateGradient:
    """G of any suffix for fixed prompts: all of them in one backward pass, or so many at a time as memory allows."""

    def __init__(self, model: Any, prompts: Sequence[Prompt], objective: Objective, *, reuse: bool = True) -> None:
        self._model, self._objective, self._reuse = model, objective, reuse
        self._embed = model.get_input_embeddings()
        self._prompts = list(prompts)
        self.take(None)
        with torch.no_grad():
            self._matrix = self._embed(torch.arange(self._embed.weight.shape[0], device=model.device))  # E (V, d)

    def take(self, most_prompts: int | None) -> None:
        """At most so many prompts at a time; None: all together. Part of a search's state, as sums depend on it."""
        self.most_prompts = most_prompts
        groups = same_shapes(self._prompts)
        if most_prompts is not None:
            groups = [group[i : i + most_prompts] for group in groups for i in range(0, len(group), most_prompts)]
        self._groups = groups
        self._caches = [shared_cache(group) for group in groups] if self._reuse else []

    def of(self, suffix: Sequence[int]) -> Tensor:
        """G (L, V), float32, summed over prompts."""
        ids = torch.tensor(suffix, dtype=torch.long, device=self._model.device)
        embedded = self._embed(ids).detach().requires_grad_()  # (L, d)
        while True:
            try:
                found: Tensor = self._of(embedded).float() @ self._matrix.float().T
                return found
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                largest = max(len(group) for group in self._groups)
                less = largest if self.most_prompts is None and len(self._groups) > 1 else halved(largest, error)
            self.take(less)

    def _of(self, embedded: Tensor) -> Tensor:
        """d loss / d suffix embeddings (L, d)."""
        if self.most_prompts is None:
            total = embedded.new_zeros((), dtype=torch.float32)
            for number, group in enumerate(self._groups):
                total = total + self._loss(number, group, embedded)
            return torch.autograd.grad(total, embedded)[0]
        summed = torch.zeros_like(embedded)
        for number, group in enumerate(self._groups):
            summed += torch.autograd.grad(self._loss(number, group, embedded), embedded)[0]
        return summed

    def _loss(self, number: int, group: Sequence[Prompt], embedded: Tensor) -> Tensor:
        rest = self._embed(torch.stack([prompt.end for prompt in group]))  # (n, after + T, d)
        parts = [embedded.expand(len(group), -1, -1), rest]
        if self._reuse:
            more = {"past_key_values": expanded(self._caches[number], 1), "use_cache": True}
        else:
            parts.insert(0, self._embed(torch.cat([prompt.before for prompt in group])))
            more = {"use_cache": False}
        logits = window_logits(self._model, group[0].rows, inputs_embeds=torch.cat(parts, 1), **more)
        alpha = self._objective.gradient_alpha
        losses = [
            prompt.losses(logits[row : row + 1], with_gradient=True, with_refusal=alpha > 0).total(alpha)
            for row, prompt in enumerate(group)
        ]
        return torch.cat(losses).sum()
