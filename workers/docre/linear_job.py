"""Training the linear model as a job: an epoch is the unit; the best one by dev F1 at TH is kept."""

import time
from typing import Any

import numpy as np

from shared.jobs.catalog.docre.models import TrainParams
from shared.jobs.context import JobContext
from shared.metrics.relations import judge, score
from workers.docre.decoding import predictions_of
from workers.docre.linear import LinearModel, LinearTraining, packed_arrays, unpacked_arrays
from workers.docre.model_file import linear_members
from workers.docre.pairs import PairScores
from workers.docre.training import Learned, TrainingData

EPOCHS, LEARNING_RATE, BATCH = 12, 0.05, 8
CHECKPOINT_S = 3.0
"""A checkpoint holds 100 MB: epochs of a small set are repeated sooner than saved."""


class LinearJob:
    """The loop over epochs."""

    def __init__(self, params: TrainParams, data: TrainingData, ctx: JobContext) -> None:
        self._params, self._data, self._ctx = params, data, ctx
        self._epochs = params.epochs or EPOCHS
        self._training = LinearTraining(
            data.train, data.relations, params.learning_rate or LEARNING_RATE, params.batch or BATCH
        )
        self._rng = np.random.default_rng(params.seed)
        self._losses: list[float] = []
        self._dev_f1: list[float] = []
        self._best = self._training.weights.copy()
        self._saved = time.monotonic()

    def run(self) -> Learned:
        self._restore()
        while len(self._losses) < self._epochs:
            self._losses.append(self._training.epoch(self._rng))
            self._judge()
            epoch = len(self._losses)
            self._ctx.metric("loss", epoch, self._losses[-1])
            self._ctx.metric("dev_f1", epoch, self._dev_f1[-1])
            if time.monotonic() - self._saved > CHECKPOINT_S and epoch < self._epochs:
                self._save()
            batches = self._training.batches
            self._ctx.progress(epoch * batches, self._epochs * batches, "batches")
        model = LinearModel(self._best)
        n = [len(document.entities) for document in self._data.train]
        return Learned(
            dev_scores=self._scores(model), members=linear_members(model), losses=self._losses, dev_f1=self._dev_f1,
            best_epoch=int(np.argmax(self._dev_f1)) + 1, pairs=sum(e * (e - 1) for e in n),
        )  # fmt: skip

    def _judge(self) -> None:
        """Dev F1 at TH; the first of the best epochs is kept."""
        scores = self._scores(LinearModel(self._training.weights))
        found = [
            prediction
            for n, document in enumerate(self._data.dev)
            for prediction in predictions_of(
                document, scores[n], self._data.relations, self._params.num_labels, 0.0, 1.0
            )
        ]
        f1 = score(judge(found, self._data.dev)).relation.f1
        if not self._dev_f1 or f1 > max(self._dev_f1):
            self._best = self._training.weights.copy()
        self._dev_f1.append(f1)

    def _scores(self, model: LinearModel) -> dict[int, PairScores]:
        return {n: model.scores(document) for n, document in enumerate(self._data.dev)}

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": "linear", "losses": self._losses, "dev_f1": self._dev_f1, "steps": self._training.steps,
            "rng": self._rng.bit_generator.state,
        }  # fmt: skip
        blobs = {**self._training.state_blobs(), "best.npz": packed_arrays(weights=self._best)}
        self._ctx.checkpoint(state, blobs)
        self._saved = time.monotonic()

    def _restore(self) -> None:
        restored = self._ctx.restored()
        if restored is None:
            return
        self._losses, self._dev_f1 = restored.state["losses"], restored.state["dev_f1"]
        self._rng.bit_generator.state = restored.state["rng"]
        self._training.restore(restored.blobs["adam.npz"].read_bytes(), restored.state["steps"])
        self._best = unpacked_arrays(restored.blobs["best.npz"].read_bytes())["weights"]
