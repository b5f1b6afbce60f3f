"""One silu.compare job: every data set × activation × learning rate, all seeds at once. `Study` is the entry point.

Paired by seed: same split, same batches, same first weights, same noise. The learning rate is each activation's own,
chosen on validation; the test part is looked at once, with the chosen one.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.jobs.catalog.silu import CompareParams
from shared.jobs.context import JobContext
from shared.jobs.references import Ref
from workers.silu.datasets import Data, Split, built_in, read_file, scaled, split
from workers.silu.networks import Networks, Shape, accuracies, initial, losses

CHECKPOINT_EPOCHS = 10
CURVES = "curves.csv"
COLUMNS = "dataset,activation,lr,seed,epoch,train_loss,val_loss,val_accuracy\n"
SEED_STRIDE = 7_919  # job seeds next to each other must not share networks

Rows = NDArray[np.float64]


class Arm(NamedTuple):
    """One training of all seeds."""

    dataset: int
    activation: str
    lr: float


class Parts(NamedTuple):
    """A data set as all seeds see it, each by its own split: (S, n, features) and (S, n)."""

    x: dict[str, Tensor]
    y: dict[str, Tensor]
    shape: Shape


@dataclass
class Trained:
    """What is kept of an arm: (S, epochs) validation curves, and test figures per seed."""

    val_loss: list[list[float]]
    val_accuracy: list[list[float]]
    test_loss: list[float]
    test_accuracy: list[float]
    noisy: dict[str, list[float]]  # test accuracy by sigma


class Study:
    """Trains every arm; finished arms lie in the checkpoint."""

    def __init__(self, params: CompareParams, ctx: JobContext) -> None:
        self.params, self.ctx = params, ctx
        self.seeds = [params.seed * SEED_STRIDE + number for number in range(params.seeds)]
        self.data = [self._read(ref) for ref in params.datasets]
        self.arms = [
            Arm(number, activation, lr)
            for number in range(len(self.data)) for activation in params.activations for lr in params.lr_grid
        ]  # fmt: skip
        self.done: list[dict[str, Any]] = []

    def _read(self, ref: Ref) -> Data:
        if ref.scheme == "builtin":
            return built_in(ref.target)
        return read_file(self.ctx.input(ref), str(ref), self.params.label)

    def run(self) -> list[Trained]:
        """Every arm in order, from the checkpoint on."""
        restored = self.ctx.restored()
        first_epoch = 0
        if restored:
            self.done, first_epoch = restored.state["done"], restored.state["epoch"]
        else:
            self.ctx.journal(CURVES).append(COLUMNS.encode())
        blob = restored.blobs["training"].read_bytes() if restored and first_epoch else None
        for number in range(len(self.done), len(self.arms)):
            trained = self._train(number, first_epoch, blob)
            first_epoch, blob = 0, None
            self.done.append(vars(trained))
            self.ctx.checkpoint({"done": self.done, "epoch": 0})
        return [Trained(**each) for each in self.done]

    # One arm ----------------------------------------------------------------------------------------------------------

    def _train(self, number: int, first: int, blob: bytes | None) -> Trained:
        arm, params = self.arms[number], self.params
        parts = self._parts(arm.dataset)
        networks = initial(parts.shape, self.seeds, arm.activation, params.beta, params.gain)
        optimiser = torch.optim.Adam(networks.parameters, lr=arm.lr)
        trained = Trained([[] for _ in self.seeds], [[] for _ in self.seeds], [], [], {})
        if blob:
            trained = _load(blob, networks, optimiser)
        for epoch in range(first, params.epochs):
            train_loss = self._epoch(networks, optimiser, parts, epoch)
            self._look(arm, networks, parts, epoch, train_loss, trained)
            self.ctx.progress(number * params.epochs + epoch + 1, len(self.arms) * params.epochs, "epochs")
            if (epoch + 1) % CHECKPOINT_EPOCHS == 0 and epoch + 1 < params.epochs:
                state = {"done": self.done, "epoch": epoch + 1}
                self.ctx.checkpoint(state, {"training": _packed(networks, optimiser, trained)})
        self._test(networks, parts, trained)
        return trained

    def _epoch(self, networks: Networks, optimiser: torch.optim.Optimizer, parts: Parts, epoch: int) -> Tensor:
        """One pass, each seed in its own order; mean loss (S,)."""
        x, y = parts.x["train"], parts.y["train"]
        orders = torch.from_numpy(
            np.stack([np.random.default_rng([seed, 2, epoch]).permutation(x.shape[1]) for seed in self.seeds])
        )
        rows, sums = torch.arange(len(self.seeds))[:, None], torch.zeros(len(self.seeds))
        for start in range(0, x.shape[1], self.params.batch_size):
            batch = orders[:, start : start + self.params.batch_size]
            each = losses(networks.logits(x[rows, batch]), y[rows, batch])
            optimiser.zero_grad(set_to_none=True)
            each.sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            sums += each.detach() * batch.shape[1]
        return sums / x.shape[1]

    @torch.no_grad()
    def _look(
        self, arm: Arm, networks: Networks, parts: Parts, epoch: int, train_loss: Tensor, trained: Trained
    ) -> None:  # fmt: skip
        logits = networks.logits(parts.x["validation"])
        loss, accuracy = losses(logits, parts.y["validation"]), accuracies(logits, parts.y["validation"])
        name, lines = self.data[arm.dataset].name, list[str]()
        for seed in range(len(self.seeds)):
            trained.val_loss[seed].append(float(loss[seed]))
            trained.val_accuracy[seed].append(float(accuracy[seed]))
            figures = f"{float(train_loss[seed]):.6g},{float(loss[seed]):.6g},{float(accuracy[seed]):.6g}"
            lines.append(f"{name},{arm.activation},{arm.lr:g},{seed},{epoch + 1},{figures}\n")
        self.ctx.journal(CURVES).append("".join(lines).encode())

    @torch.no_grad()
    def _test(self, networks: Networks, parts: Parts, trained: Trained) -> None:
        """Clean and under noise: the same draw for every activation."""
        x, y = parts.x["test"], parts.y["test"]
        logits = networks.logits(x)
        trained.test_loss = losses(logits, y).tolist()
        trained.test_accuracy = accuracies(logits, y).tolist()
        spread = parts.x["train"].std(dim=(1, 2), keepdim=True)
        noise = torch.from_numpy(
            np.stack([np.random.default_rng([seed, 3]).standard_normal(x.shape[1:], np.float32) for seed in self.seeds])
        )
        for sigma in self.params.noise_sigmas:
            noisy = networks.logits(x + sigma * spread * noise)
            trained.noisy[f"{sigma:g}"] = accuracies(noisy, y).tolist()

    def _parts(self, number: int) -> Parts:
        data = self.data[number]
        splits = [split(data, seed) for seed in self.seeds]
        inputs = [scaled(data, own.train, self.params.scaling) for own in splits]
        x = {name: torch.from_numpy(np.stack([own[rows] for own, rows in zip(inputs, _rows(splits, name), strict=True)])
                                    ).float() for name in Split._fields}  # fmt: skip
        y = {name: torch.from_numpy(np.stack([data.y[rows] for rows in _rows(splits, name)])) for name in Split._fields}
        return Parts(x, y, Shape(data.x.shape[1], self.params.hidden, self.params.depth, data.classes))


def _rows(splits: list[Split], name: str) -> Iterator[NDArray[np.int64]]:
    return (getattr(own, name) for own in splits)


def _packed(networks: Networks, optimiser: torch.optim.Optimizer, trained: Trained) -> bytes:
    out = io.BytesIO()
    parameters = [parameter.detach() for parameter in networks.parameters]
    torch.save({"parameters": parameters, "optimiser": optimiser.state_dict(), "trained": vars(trained)}, out)
    return out.getvalue()


def _load(blob: bytes, networks: Networks, optimiser: torch.optim.Optimizer) -> Trained:
    saved = torch.load(io.BytesIO(blob), weights_only=True)
    with torch.no_grad():
        for parameter, kept in zip(networks.parameters, saved["parameters"], strict=True):
            parameter.copy_(kept)
    optimiser.load_state_dict(saved["optimiser"])
    return Trained(**saved["trained"])
