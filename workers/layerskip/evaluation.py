"""Every exit on held-out text: loss, agreement with the last layer, overlap of the distributions."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.jobs.catalog.layerskip import ExitFigures
from shared.models.llama import Llama
from workers.layerskip.corpus import IGNORED, Batch


@dataclass
class ExitSums:
    """Running sums over scored positions, one entry a layer; plain numbers, so that a checkpoint keeps them."""

    tokens: int = 0
    loss: list[float] = field(default_factory=list)
    agreed: list[int] = field(default_factory=list)
    overlap: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, layers: int, state: dict[str, Any] | None = None) -> "ExitSums":
        return cls(**state) if state else cls(0, [0.0] * layers, [0] * layers, [0.0] * layers)

    def add(self, model: Llama, batch: Batch) -> None:
        """Score a batch."""
        scored = batch.targets != IGNORED
        targets = batch.targets[scored]
        exits = list(_scored_states(model, batch.ids, scored))
        last = torch.log_softmax(model.head(exits[-1]).float(), -1)
        for number, x in enumerate(exits):
            logp = last if number == len(exits) - 1 else torch.log_softmax(model.head(x).float(), -1)
            self.loss[number] += float(F.nll_loss(logp, targets, reduction="sum"))
            self.agreed[number] += int((logp.argmax(-1) == last.argmax(-1)).sum())
            self.overlap[number] += float(torch.minimum(logp, last).exp().sum())
        self.tokens += len(targets)

    def figures(self) -> list[ExitFigures]:
        """One a layer; null without tokens."""
        n = self.tokens
        return [
            ExitFigures(
                exit_layer=number + 1, loss=loss / n if n else None, perplexity=perplexity(loss, n),
                agreement=agreed / n if n else None, overlap=overlap / n if n else None,
            ) for number, (loss, agreed, overlap) in enumerate(zip(self.loss, self.agreed, self.overlap, strict=True))
        ]  # fmt: skip


def perplexity(loss: float, tokens: int) -> float | None:
    """exp(Σ CE / Σ tokens); None where there are no tokens or it leaves the numbers."""
    if not tokens or loss / tokens > 700:
        return None
    return float(torch.exp(torch.tensor(loss / tokens, dtype=torch.float64)))


def _scored_states(model: Llama, ids: Tensor, scored: Tensor) -> Iterator[Tensor]:
    for x in model.states(ids):
        yield x[scored]


@torch.inference_mode()
def look(model: Llama, batches: list[Batch]) -> ExitSums:
    """All exits over some windows."""
    sums = ExitSums.of(model.config.layers)
    device = model.lm_head.weight.device
    was_training = model.training
    model.eval()
    for batch in batches:
        sums.add(model, Batch(batch.ids.to(device), batch.targets.to(device)))
    model.train(was_training)
    return sums
