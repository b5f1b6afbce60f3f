"""All seeds of one arm as a batch of independent networks: weights (S, in, out), batched products.

Networks of one seed begin with the same weights whatever their activation and see the same batches.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.silu.activations import FUNCTIONS, gain_of


class Shape(NamedTuple):
    """Of a network."""

    inputs: int
    hidden: int
    depth: int
    outputs: int

    @property
    def widths(self) -> list[int]:
        return [self.inputs, *[self.hidden] * self.depth, self.outputs]


@dataclass
class Networks:
    """S networks of one activation."""

    weights: list[Tensor]  # (S, in, out)
    biases: list[Tensor]  # (S, 1, out)
    beta: list[Tensor]  # (S, 1, 1) per hidden layer; empty where β is fixed
    activate: Callable[[Tensor], Tensor]

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.biases, *self.beta]

    def logits(self, x: Tensor) -> Tensor:
        """x (S, n, in) → (S, n, classes)."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if layer < last:
                x = x * torch.sigmoid(self.beta[layer] * x) if self.beta else self.activate(x)
        return x


def initial(shape: Shape, seeds: list[int], activation: str, beta: float | str, gain: str) -> Networks:
    """He-normal weights (variance 2/fan-in, 1/fan-in in the last layer), or by the activation's own gain."""
    widths = shape.widths
    spread = math.sqrt(2) if gain == "he" else gain_of(activation)
    drawn = [_drawn(widths, seed) for seed in seeds]
    weights = []
    for layer in range(len(widths) - 1):
        scale = (spread if layer < len(widths) - 2 else 1.0) / math.sqrt(widths[layer])
        weights.append((torch.stack([own[layer] for own in drawn]) * scale).requires_grad_())
    biases = [torch.zeros(len(seeds), 1, width, requires_grad=True) for width in widths[1:]]
    learnt = activation == "silu" and beta == "learn"
    betas = [torch.ones(len(seeds), 1, 1, requires_grad=True) for _ in widths[1:-1]] if learnt else []
    return Networks(weights, biases, betas, _activation(activation, beta))


def _drawn(widths: list[int], seed: int) -> list[Tensor]:
    """Standard normal weights of one seed, the same for every activation."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(before, after, generator=generator) for before, after in pairwise(widths)]


def _activation(name: str, beta: float | str) -> Callable[[Tensor], Tensor]:
    if name != "silu" or beta in (1.0, "learn"):
        return FUNCTIONS[name]
    fixed = float(beta)
    return lambda x: x * torch.sigmoid(fixed * x)


def losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of each network: (S, n, classes), (S, n) → (S,)."""
    count, rows, classes = logits.shape
    each = F.cross_entropy(logits.reshape(-1, classes), targets.reshape(-1), reduction="none")
    return each.view(count, rows).mean(dim=1)


def accuracies(logits: Tensor, targets: Tensor) -> Tensor:
    """(S,)."""
    return (logits.argmax(-1) == targets).double().mean(dim=1)
