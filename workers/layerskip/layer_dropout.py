"""Layer dropout in training: for each sample and layer the whole block is left out with probability p_{l,t}.

No rescaling, in training or after. Each layer draws from a generator of its own, seeded by job and layer, so that every
data-parallel rank drops equally many samples.
"""

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shared.models.llama import Block, Llama


class LayerDropout:
    """The layers' generators. Their state is part of a checkpoint."""

    def __init__(self, layers: int, seed: int) -> None:
        self._generators = [torch.Generator().manual_seed(layer_seed(seed, layer)) for layer in range(layers)]

    def kept(self, rates: Sequence[float], batch: int) -> list[Tensor]:
        """For each layer the samples (kept,) that run through it. Every layer draws on every step."""
        draws = [torch.rand(batch, generator=generator) for generator in self._generators]
        return [(draw >= rate).nonzero().flatten() for draw, rate in zip(draws, rates, strict=True)]

    def state(self) -> Tensor:
        """(layers, bytes of a generator's state)."""
        return torch.stack([generator.get_state() for generator in self._generators])

    def restore(self, state: Tensor) -> None:
        for generator, own in zip(self._generators, state, strict=True):
            generator.set_state(own.clone())  # a view into the stack is not what it takes


def layer_seed(seed: int, layer: int) -> int:
    """The layer's own seed, from the job's."""
    return int.from_bytes(hashlib.sha256(f"layer dropout {seed} {layer}".encode()).digest()[:7], "big")


def states(model: Llama, ids: Tensor, kept: Sequence[Tensor], recompute: bool = False) -> Iterator[Tensor]:
    """x_1 … x_L (batch, length, d): a block runs on the samples it keeps, the others pass by unchanged."""
    x, (cos, sin) = model.embed(ids), model.angles(ids.shape[1])
    for block, samples in zip(model.blocks, kept, strict=True):
        x = through(block, x, samples.to(x.device), cos, sin, recompute)
        yield x


def through(block: Block, x: Tensor, samples: Tensor, cos: Tensor, sin: Tensor, recompute: bool = False) -> Tensor:
    """x with the samples (kept,) run through the block; none kept: nothing runs."""
    if not len(samples):
        return x
    # The drawing is done: recomputing a block in backward meets the same samples.
    if len(samples) == len(x):
        return _run(block, x, cos, sin, recompute)
    after = _run(block, x[samples], cos, sin, recompute)
    return x.index_copy(0, samples, after.to(x.dtype))


def _run(block: Block, x: Tensor, cos: Tensor, sin: Tensor, recompute: bool) -> Tensor:
    if recompute:
        again: Tensor = checkpoint(block, x, cos, sin, use_reentrant=False)
        return again
    ran: Tensor = block(x, cos, sin)
    return ran
