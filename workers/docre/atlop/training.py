"""Training ATLOP and DREEAM: AdamW with two rates, linear warm-up and decay, clipping; the best epoch is kept.

Best by dev F1 (atlop) or dev Ign F1 (dreeam). A checkpoint every 50 batches holds weights, optimiser, schedule and all
generators: a resumed job goes on to the same bits.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from shared.jobs.catalog.docre.models import TrainParams
from shared.jobs.context import JobContext
from shared.llm.model_folder import model_folder
from shared.metrics.relations import facts_of, judge, score
from shared.relations.documents import Document
from workers.docre.atlop.losses import adaptive_threshold, evidence_loss
from workers.docre.atlop.model import (
    Shape,
    atlop_members,
    blob_tensors,
    new_atlop,
    pairs_tensor,
    set_weights,
    tensors_blob,
    weights_of,
)
from workers.docre.atlop.wordpieces import word_pieces
from workers.docre.decoding import predictions_of
from workers.docre.pairs import PairScores, Relations, label_matrix, pair_row
from workers.docre.training import Learned, TrainingData

EPOCHS, LEARNING_RATE, BATCH = 30, 1e-4, 4
CHECKPOINT_EVERY = 50  # batches


class EncoderJob:
    """The loop over batches."""

    def __init__(self, params: TrainParams, data: TrainingData, ctx: JobContext) -> None:
        self._params, self._data, self._ctx = params, data, ctx
        self._folder = model_folder(params.encoder, ctx, ctx.cache_dir / "models").path
        torch.manual_seed(params.seed)
        self._shape = Shape(
            data.relations.size, params.emb_size, params.block_size, params.model == "dreeam", params.max_len
        )
        self._scorer = new_atlop(self._folder, self._shape)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = self._scorer.model.to(self._device)
        self._pieces = [word_pieces(document, self._scorer.tokenizer, params.max_len) for document in data.train]
        self._batch, self._epochs = params.batch or BATCH, params.epochs or EPOCHS
        self._per_epoch = -(-len(data.train) // self._batch)
        self._rng = np.random.default_rng(params.seed)
        self._optimizer, self._schedule = self._make_optimizer()
        self._losses: list[float] = []
        self._dev: list[float] = []
        self._best = b""
        self._order: list[int] = []
        self._sum, self._done = 0.0, 0  # of this epoch; batches in all

    def run(self) -> Learned:
        self._restore()
        total = self._epochs * self._per_epoch
        while self._done < total:
            if self._done % self._per_epoch == 0:
                self._order, self._sum = self._rng.permutation(len(self._data.train)).tolist(), 0.0
            self._sum += self._step(self._done % self._per_epoch)
            self._done += 1
            if self._done % self._per_epoch == 0:
                self._end_epoch()
            if self._done % CHECKPOINT_EVERY == 0 and self._done < total:
                self._save()
            self._ctx.progress(self._done, total, "batches")
        set_weights(self._model, self._best)
        entities = [len(document.entities) for document in self._data.train]
        return Learned(
            dev_scores=self._dev_scores(), members=atlop_members(self._scorer, self._best, self._folder),
            losses=self._losses, dev_f1=self._dev, best_epoch=int(np.argmax(self._dev)) + 1,
            pairs=sum(n * (n - 1) for n in entities), truncated=sum(pieces.is_truncated for pieces in self._pieces),
            architecture=asdict(self._shape),
        )  # fmt: skip

    def _step(self, batch: int) -> float:
        """One step over a batch of documents; the loss is the mean over all their pairs."""
        self._model.train()
        chosen = self._order[batch * self._batch : (batch + 1) * self._batch]
        pairs = [max(len(self._data.train[n].entities) * (len(self._data.train[n].entities) - 1), 0) for n in chosen]
        whole = 0.0
        for n, own in zip(chosen, pairs, strict=True):
            if own:
                loss = self._loss(n, own / sum(pairs), 1 / len(chosen))
                loss.backward()  # type: ignore[no-untyped-call]
                whole += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._params.clip)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return whole

    def _loss(self, n: int, share: float, evidence_share: float) -> Tensor:
        document = self._data.train[n]
        labels = torch.from_numpy(label_matrix(document, self._data.relations)).to(self._device)
        out = self._model(self._pieces[n], pairs_tensor(document))
        loss = adaptive_threshold(out.logits, labels) * share
        if self._shape.with_evidence:
            gold = evidence_counts(document, self._data.relations).to(self._device)
            has_relation = labels[:, 1:].any(dim=1)
            compat = self._params.compat_dreeam
            loss = loss + self._params.evi_lambda * evidence_share * evidence_loss(
                out.sentences, gold, has_relation, compat=compat
            )
        return loss

    def _end_epoch(self) -> None:
        self._losses.append(self._sum / self._per_epoch)
        scores = self._dev_scores()
        found = [
            prediction
            for n, document in enumerate(self._data.dev)
            for prediction in predictions_of(
                document, scores[n], self._data.relations, self._params.num_labels, 0.0, self._params.evi_thresh
            )
        ]
        dev = score(judge(found, self._data.dev), facts_of(self._data.train))
        value = dev.ign.f1 if self._shape.with_evidence else dev.relation.f1
        if not self._dev or value > max(self._dev):
            self._best = weights_of(self._model)
        self._dev.append(value)
        self._ctx.metric("loss", len(self._losses), self._losses[-1])
        self._ctx.metric("dev_f1", len(self._dev), value)

    def _dev_scores(self) -> dict[int, PairScores]:
        self._model.eval()
        return {n: self._scorer.scores(document) for n, document in enumerate(self._data.dev)}

    def _make_optimizer(self) -> tuple[AdamW, LambdaLR]:
        encoder = list(self._model.encoder.parameters())
        ids = {id(parameter) for parameter in encoder}
        new = [parameter for parameter in self._model.parameters() if id(parameter) not in ids]
        rates = (self._params.encoder_learning_rate, self._params.learning_rate or LEARNING_RATE)
        groups: Sequence[dict[str, Any]] = [
            {"params": p, "lr": lr} for p, lr in zip((encoder, new), rates, strict=True)
        ]
        optimizer = AdamW(groups, eps=self._params.adam_epsilon)
        total = self._epochs * self._per_epoch
        warmup = int(self._params.warmup * total)

        def factor(step: int) -> float:
            return step / max(1, warmup) if step < warmup else max(0.0, (total - step) / max(1, total - warmup))

        return optimizer, LambdaLR(optimizer, factor)

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        state = {"done": self._done, "losses": self._losses, "dev": self._dev, "order": self._order, "sum": self._sum,
                 "rng": self._rng.bit_generator.state}  # fmt: skip
        generators: dict[str, Any] = {"torch": torch.get_rng_state()}
        if self._device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state()
        blobs = {
            "model": weights_of(self._model),
            "optimizer": tensors_blob(self._optimizer.state_dict()),
            "schedule": tensors_blob(self._schedule.state_dict()),
            "generators": tensors_blob(generators),
            "best": self._best,
        }
        self._ctx.checkpoint(state, blobs)

    def _restore(self) -> None:
        restored = self._ctx.restored()
        if restored is None:
            return
        state, blobs = restored.state, {name: path.read_bytes() for name, path in restored.blobs.items()}
        self._done, self._losses, self._dev = state["done"], state["losses"], state["dev"]
        self._order, self._sum, self._best = state["order"], state["sum"], blobs["best"]
        self._rng.bit_generator.state = state["rng"]
        set_weights(self._model, blobs["model"])
        self._optimizer.load_state_dict(blob_tensors(blobs["optimizer"]))
        self._schedule.load_state_dict(blob_tensors(blobs["schedule"]))
        generators = blob_tensors(blobs["generators"])
        torch.set_rng_state(generators["torch"])
        if "cuda" in generators and self._device.type == "cuda":
            torch.cuda.set_rng_state(generators["cuda"])


def evidence_counts(document: Document, relations: Relations) -> Tensor:
    """(pairs, S): how many of the pair's labels name each sentence."""
    n = len(document.entities)
    counts = torch.zeros(n * max(n - 1, 0), len(document.sentences))
    known = relations.numbers
    for label in document.labels or ():
        if label.relation in known:
            for sentence in label.evidence or ():
                counts[pair_row(label.head, label.tail, n), sentence] += 1
    return counts
