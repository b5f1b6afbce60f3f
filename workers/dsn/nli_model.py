"""A sequence-classification checkpoint as an NLI model: (entailment, neutral, contradiction) of pairs of texts."""

from collections.abc import Sequence
from typing import Any

import torch

from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from workers.dsn.memory import halved
from workers.dsn.nli import Pair, Probabilities

LABELS = ("entail", "neutral", "contra")
BATCH = 32
MOST = 2**20  # tokens of a pair, for models that name no limit


class NliModel:
    """Label order comes from the model's own id2label, as checkpoints differ in it."""

    def __init__(self, ref: Ref, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        named = {index: str(label).lower() for index, label in model.config.id2label.items()}
        self._order = [_index_of(word, named, ref) for word in LABELS]
        self._batch = BATCH
        self._longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or MOST)

    @torch.inference_mode()
    def __call__(self, pairs: Sequence[Pair]) -> list[Probabilities]:
        found: list[Probabilities] = []
        while len(found) < len(pairs):
            some = pairs[len(found) : len(found) + self._batch]
            try:
                found += self._some(some)
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                self._batch = halved(len(some), error)
        return found

    def _some(self, pairs: Sequence[Pair]) -> list[Probabilities]:
        first, second = zip(*pairs, strict=True)
        batch = self._tokenizer(list(first), list(second), padding=True, truncation=True, max_length=self._longest,
                                return_tensors="pt")  # fmt: skip
        logits = self._model(**batch.to(self._model.device)).logits.float()
        return [(row[0], row[1], row[2]) for row in logits.softmax(-1)[:, self._order].tolist()]


def _index_of(word: str, named: dict[int, str], ref: Ref) -> int:
    for index, label in named.items():
        if label.startswith(word):
            return int(index)
    raise InvalidInput(
        f"{ref} has the labels {sorted(named.values())}; an NLI model has entailment, neutral, contradiction"
    )
