"""What alignment learns from: batches of pairs of rows. A step's batch depends on seed and step alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.insta.losses import category_loss, cosine_loss
from workers.insta.pairs import Pairs, steps_per_epoch, warm_up_steps

Ints = NDArray[np.int64]
Scale = Callable[[int], float]


class Batch(NamedTuple):
    """Rows u and v (batch,) and what is known of each pair: its category, or whether it is alike."""

    u: Ints
    v: Ints
    labels: NDArray[np.float64]


class Recipe(Protocol):
    """A way to align."""

    @property
    def steps(self) -> int:
        """How many there are."""

    @property
    def examples(self) -> int:
        """Pairs, or tasks with a category, that are learned from."""

    @property
    def forced(self) -> int:
        """Negatives taken although none was far enough."""

    def batch(self, step: int) -> Batch:
        """Step 0, 1, …"""

    def loss(self, u: Tensor, v: Tensor, labels: Tensor) -> Tensor:
        """Of unit vectors (batch, d)."""

    def scale(self, step: int) -> float:
        """Of the learning rate at a step."""


@dataclass(frozen=True)
class CategoryRecipe:
    """Draws of categories, two different tasks of each; a category's chance goes with the root of its size."""

    members: Sequence[Ints]  # rows of each category of two tasks or more, one array per task
    tasks: Sequence[Sequence[Ints]]
    steps: int
    draws: int
    tau: float
    seed: int

    @classmethod
    def of(cls, rows_of_task: Sequence[Ints], codes: Sequence[int], settings: "CategorySettings") -> "CategoryRecipe":
        """`codes` (T,) is each task's category; −1: none."""
        named = sorted({code for code in codes if code >= 0})
        groups = [[rows for rows, own in zip(rows_of_task, codes, strict=True) if own == code] for code in named]
        tasks = [group for group in groups if len(group) >= 2]
        return cls([np.concatenate(group) for group in tasks], tasks, *settings)

    @property
    def examples(self) -> int:
        return sum(len(group) for group in self.tasks)

    @property
    def forced(self) -> int:
        return 0

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        weights = np.sqrt([len(group) for group in self.tasks])
        drawn = rng.choice(len(self.tasks), self.draws, p=weights / weights.sum())
        u, v = np.empty(self.draws, np.int64), np.empty(self.draws, np.int64)
        for place, category in enumerate(drawn):
            first, second = rng.choice(len(self.tasks[category]), 2, replace=False)
            u[place] = rng.choice(self.tasks[category][first])
            v[place] = rng.choice(self.tasks[category][second])
        return Batch(u, v, drawn.astype(np.float64))

    def loss(self, u: Tensor, v: Tensor, labels: Tensor) -> Tensor:
        return category_loss(u, v, labels, self.tau)

    def scale(self, step: int) -> float:
        return 1.0


class CategorySettings(NamedTuple):
    """What a category recipe is run with."""

    steps: int
    draws: int
    tau: float
    seed: int


@dataclass(frozen=True)
class PairRecipe:
    """The official recipe: squared error of the cosine, linear warm-up and decay, epochs of shuffled pairs."""

    pairs: Pairs
    epochs: int
    batch_size: int
    seed: int
    warm_up: float = 0.1  # share of an epoch
    last_epoch: int | None = None  # where it ends, on the way that `epochs` would have gone

    @property
    def examples(self) -> int:
        return len(self.pairs.labels)

    @property
    def forced(self) -> int:
        return self.pairs.forced

    @property
    def per_epoch(self) -> int:
        return steps_per_epoch(len(self.pairs.labels), self.batch_size)

    @property
    def steps(self) -> int:
        return (self.last_epoch or self.epochs) * self.per_epoch

    def batch(self, step: int) -> Batch:
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pairs.labels))
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        return Batch(self.pairs.u[rows], self.pairs.v[rows], self.pairs.labels[rows])

    def loss(self, u: Tensor, v: Tensor, labels: Tensor) -> Tensor:
        return cosine_loss(u, v, labels.to(u.dtype))

    def scale(self, step: int) -> float:
        warm_up, end = warm_up_steps(self.per_epoch, self.warm_up), self.epochs * self.per_epoch
        if step < warm_up:
            return step / warm_up
        return (end - step) / max(1, end - warm_up)


def labels_of(batch: Batch) -> Tensor:
    return torch.from_numpy(batch.labels)
