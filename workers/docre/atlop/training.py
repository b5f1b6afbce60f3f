"""Training ATLOP and DREEAM: AdamW with two rates, linear warm-up and decay, clipping; the best epoch is kept.

Best by dev F1 (atlop) or dev Ign F1 (dreeam). With a teacher, its attention takes the place of evidence. A checkpoint
about every 50 batches, between two steps, holds weights, optimiser, schedule and all generators: a resumed job goes on
to the same bits.
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
from shared.metrics.relations import facts_of, judge, score
from shared.relations.documents import Document
from workers.docre.atlop.fusion import best_threshold, fused_labels
from workers.docre.atlop.losses import adaptive_threshold, attention_loss, evidence_loss
from workers.docre.atlop.model import (
    atlop_members,
    blob_tensors,
    pairs_tensor,
    set_weights,
    tensors_blob,
    weights_of,
)
from workers.docre.atlop.origin import origin, teacher
from workers.docre.atlop.stages import rates_of
from workers.docre.atlop.wordpieces import word_pieces
from workers.docre.decoding import predictions_of
from workers.docre.model_file import in_batches
from workers.docre.pairs import PairScores, Relations, label_matrix, pair_row
from workers.docre.training import Fusion, Learned, TrainingData

BATCH = 4
EVAL_BATCH = 8
CHECKPOINT_EVERY = 50  # batches


class EncoderJob:
    """The loop over batches."""

    def __init__(self, params: TrainParams, data: TrainingData, ctx: JobContext) -> None:
        self._params, self._data, self._ctx = params, data, ctx
        torch.manual_seed(params.seed)
        self._scorer, self._folder = origin(params, data.relations, ctx)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = self._scorer.model.to(self._device)
        self._shape = self._model.shape
        self._pieces = [word_pieces(document, self._scorer.tokenizer, self._shape.max_len) for document in data.train]
        self._teacher = None if params.teacher is None else teacher(params.teacher, ctx, data.train, self._pieces)
        self._evident = [self._counted_for_evidence(document) for document in data.train]
        self._rates = rates_of(params, self._model.encoder.config.hidden_size)
        self._batch = params.batch or BATCH
        self._per_epoch = -(-len(data.train) // self._batch)
        self._rng = np.random.default_rng(params.seed)
        self._optimizer, self._schedule = self._make_optimizer()
        self._losses: list[float] = []
        self._dev: list[float] = []
        self._best = b""
        self._order: list[int] = []
        self._sum, self._done, self._saved = 0.0, 0, 0  # of this epoch; batches in all, and at the last checkpoint

    def run(self) -> Learned:
        self._restore()
        total = self._rates.epochs * self._per_epoch
        while self._done < total:
            at = self._done % self._per_epoch
            if at == 0:
                self._order, self._sum = self._rng.permutation(len(self._data.train)).tolist(), 0.0
            self._sum += self._gradient(at)
            self._done += 1
            is_last = at + 1 == self._per_epoch
            is_step = is_last or (at + 1) % self._rates.accumulation == 0
            if is_step:
                self._step()
            if is_last:
                self._end_epoch()
            if is_step and self._done - self._saved >= CHECKPOINT_EVERY and self._done < total:
                self._save()
            self._ctx.progress(self._done, total, "batches")
        return self._learned()

    def _learned(self) -> Learned:
        set_weights(self._model, self._best)
        entities = [len(document.entities) for document in self._data.train]
        scores = self._dev_scores()
        return Learned(
            dev_scores=scores, members=atlop_members(self._scorer, self._best, self._folder),
            losses=self._losses, dev_f1=self._dev, best_epoch=int(np.argmax(self._dev)) + 1,
            pairs=sum(n * (n - 1) for n in entities), truncated=sum(pieces.is_truncated for pieces in self._pieces),
            architecture=asdict(self._shape), fusion=self._fused(scores) if self._params.fusion else None,
        )  # fmt: skip

    def _fused(self, scores: dict[int, PairScores]) -> Fusion:
        """Fusion on dev: every document's labels with their fused scores, and the threshold of the best F1."""
        labels = {
            n: fused_labels(document, scores[n], self._scorer, self._params.evi_thresh, EVAL_BATCH)
            for n, document in enumerate(self._data.dev)
        }
        gold = [label_matrix(document, self._data.relations) for document in self._data.dev]
        flat = [(label.score, bool(gold[n][label.row, label.relation])) for n, own in labels.items() for label in own]
        wanted = sum(len(document.triples) for document in self._data.dev)
        return Fusion(labels, best_threshold([each for each, _ in flat], [truth for _, truth in flat], wanted))

    def _gradient(self, batch: int) -> float:
        """Add the gradient of a batch of documents; its loss is the mean over all their pairs."""
        self._model.train()
        chosen = self._order[batch * self._batch : (batch + 1) * self._batch]
        pairs = {n: len(self._data.train[n].entities) * (len(self._data.train[n].entities) - 1) for n in chosen}
        every, evident = sum(pairs.values()), sum(self._evident[n] for n in chosen)
        whole = 0.0
        for n in chosen:
            if pairs[n]:
                loss = self._loss(n, pairs[n] / every, self._evident[n] / max(evident, 1))
                torch.autograd.backward(loss / self._rates.accumulation)
                whole += float(loss.detach())
        return whole

    def _step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._rates.clip)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()

    def _loss(self, n: int, share: float, evidence_share: float) -> Tensor:
        """A document's part of the batch's loss: its share of the pairs, and of those with counted evidence."""
        document = self._data.train[n]
        pairs = pairs_tensor(document)
        labels = torch.from_numpy(label_matrix(document, self._data.relations)).to(self._device)
        out = self._model(self._pieces[n], pairs)
        loss = adaptive_threshold(out.logits, labels) * share
        if self._teacher is not None:
            with torch.no_grad():
                attention = self._teacher(self._pieces[n], pairs).attention
            loss = loss + self._params.attn_lambda * share * attention_loss(out.attention, attention)
        elif self._shape.with_evidence:
            gold = evidence_counts(document, self._data.relations, self._shape.max_sent).to(self._device)
            has_relation = labels[:, 1:].any(dim=1)
            compat = self._params.compat_dreeam
            loss = loss + self._params.evi_lambda * evidence_share * evidence_loss(
                out.sentences, gold, has_relation, compat=compat
            )
        return loss

    def _counted_for_evidence(self, document: Document) -> int:
        """How many of its pairs the evidence loss counts."""
        has_relation = label_matrix(document, self._data.relations)[:, 1:].any(axis=1)
        gold = evidence_counts(document, self._data.relations, self._shape.max_sent).numpy()
        return int((has_relation & (self._params.compat_dreeam | gold.any(axis=1))).sum())

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
        return dict(enumerate(in_batches(self._scorer, self._data.dev, EVAL_BATCH)))

    def _make_optimizer(self) -> tuple[AdamW, LambdaLR]:
        encoder = list(self._model.encoder.parameters())
        ids = {id(parameter) for parameter in encoder}
        new = [parameter for parameter in self._model.parameters() if id(parameter) not in ids]
        groups: Sequence[dict[str, Any]] = [
            {"params": encoder, "lr": self._rates.encoder}, {"params": new, "lr": self._rates.new_layers}
        ]  # fmt: skip
        optimizer = AdamW(groups, eps=self._params.adam_epsilon)
        total = self._rates.epochs * -(-self._per_epoch // self._rates.accumulation)
        warmup = int(self._params.warmup * total)

        def factor(step: int) -> float:
            return step / max(1, warmup) if step < warmup else max(0.0, (total - step) / max(1, total - warmup))

        return optimizer, LambdaLR(optimizer, factor)

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        self._saved = self._done
        state = {
            "model": self._params.model, "done": self._done, "losses": self._losses, "dev": self._dev,
            "order": self._order, "sum": self._sum, "rng": self._rng.bit_generator.state,
        }  # fmt: skip
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
        self._saved = self._done
        self._order, self._sum, self._best = state["order"], state["sum"], blobs["best"]
        self._rng.bit_generator.state = state["rng"]
        set_weights(self._model, blobs["model"])
        self._optimizer.load_state_dict(blob_tensors(blobs["optimizer"]))
        self._schedule.load_state_dict(blob_tensors(blobs["schedule"]))
        generators = blob_tensors(blobs["generators"])
        torch.set_rng_state(generators["torch"])
        if "cuda" in generators and self._device.type == "cuda":
            torch.cuda.set_rng_state(generators["cuda"])


def evidence_counts(document: Document, relations: Relations, max_sent: int) -> Tensor:
    """(pairs, S): how many of the pair's labels name each of the first `max_sent` sentences."""
    n = len(document.entities)
    counts = torch.zeros(n * max(n - 1, 0), min(len(document.sentences), max_sent))
    known = relations.numbers
    for label in document.labels or ():
        if label.relation in known:
            for sentence in label.evidence or ():
                if sentence < max_sent:
                    counts[pair_row(label.head, label.tail, n), sentence] += 1
    return counts
