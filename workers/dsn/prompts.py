"""The prompts that one suffix is optimised for, with everything about them that no step changes computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from workers.dsn.conversation import Conversation
from workers.dsn.objective import Losses, RefusalWeights, decay_weights, window_losses
from workers.dsn.prefix import prefix_cache, stacked


@dataclass(frozen=True)
class Objective:
    """What is minimised. GCG: no decay, α = 0."""

    alpha: float
    cosine_decay: bool
    grad_refusal: bool = False
    grad_alpha: float | None = None

    @property
    def gradient_alpha(self) -> float:
        """The refusal loss's weight in the candidate gradients; by default it has none there."""
        if not self.grad_refusal:
            return 0.0
        return self.alpha if self.grad_alpha is None else self.grad_alpha


class Prompt:
    """One prompt on the model's device."""

    def __init__(
        self, model: Any, conversation: Conversation, keywords: Sequence[Sequence[int]], *, cosine_decay: bool
    ) -> None:
        self.model, self.conversation = model, conversation
        device = model.device
        self.before = torch.tensor([conversation.before], dtype=torch.long, device=device)
        self.end = torch.tensor([*conversation.after, *conversation.target], dtype=torch.long, device=device)
        self.target = torch.tensor(conversation.target, dtype=torch.long, device=device)
        length = len(conversation.target)
        self.rows = length + 1  # P, of the window
        self.decay = (decay_weights(length) if cosine_decay else torch.ones(length)).to(device)
        self.refusal = RefusalWeights.build(keywords, self.rows).to(device)

    @cached_property
    def cache(self) -> Any:
        """The attention cache of what comes before the suffix."""
        return prefix_cache(self.model, self.before)

    def losses(self, logits: Tensor, *, with_gradient: bool = False, with_refusal: bool = True) -> Losses:
        """Of windows (batch, P, V)."""
        weights = self.refusal if with_refusal else None
        return window_losses(logits, self.target, self.decay, weights, with_gradient=with_gradient)


def window_logits(model: Any, rows: int, **inputs: Any) -> Tensor:
    """The last `rows` rows of logits, (batch, rows, V): the output layer runs on them alone."""
    logits: Tensor = model(logits_to_keep=rows, **inputs).logits
    return logits[:, -rows:]


def same_shapes(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """Prompts grouped by the lengths of their parts, in order: a group fits one batch without padding."""
    groups: dict[tuple[int, int, int], list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.conversation.shape, []).append(prompt)
    return list(groups.values())


def shared_cache(group: Sequence[Prompt]) -> Any:
    return stacked([prompt.cache for prompt in group])
