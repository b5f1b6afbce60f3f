"""Ordered pairs of a document's entities, and what relations hold between them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.jobs.errors import InvalidInput
from shared.relations.documents import Document

NA = "Na"


@dataclass(frozen=True)
class Relations:
    """The relation inventory; class 0 is TH (no relation)."""

    ids: tuple[str, ...]

    @classmethod
    def of(cls, documents: Iterable[Document]) -> "Relations":
        """Every relation that training labels have, sorted: the same data gives the same order."""
        return cls(tuple(sorted({label.relation for document in documents for label in document.labels or ()})))

    @property
    def size(self) -> int:
        """Classes, TH included."""
        return len(self.ids) + 1

    @property
    def numbers(self) -> Mapping[str, int]:
        return {relation: number for number, relation in enumerate(self.ids, start=1)}


def ordered_pairs(document: Document) -> NDArray[np.int64]:
    """(n·(n−1), 2): every head with every other entity as its tail."""
    n = len(document.entities)
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), axis=-1).reshape(-1, 2)
    return np.ascontiguousarray(grid[grid[:, 0] != grid[:, 1]])


def label_matrix(document: Document, relations: Relations) -> NDArray[np.float32]:
    """(pairs, R): 1 where the relation holds; class 0 where none does. Unknown relations are left out."""
    n, numbers = len(document.entities), relations.numbers
    labels = np.zeros((n * max(n - 1, 0), relations.size), np.float32)
    for label in document.labels or ():
        if label.relation in numbers:
            labels[pair_row(label.head, label.tail, n), numbers[label.relation]] = 1
    labels[:, 0] = labels[:, 1:].sum(axis=1) == 0
    return labels


def pair_row(head: int, tail: int, entities: int) -> int:
    """The row of a pair in `ordered_pairs`."""
    return head * (entities - 1) + tail - (tail > head)


def require_labels(documents: Sequence[Document], name: str) -> None:
    """Raises InvalidInput for documents without labels, naming the first."""
    for number, document in enumerate(documents):
        if document.labels is None:
            raise InvalidInput(f"{name}: document {number} ({document.title[:80]!r}): labels is missing")
    if not any(document.labels for document in documents):
        raise InvalidInput(f"{name} holds no label: there is nothing to learn or to compare with")


def require_known(documents: Sequence[Document], known: Iterable[str], name: str) -> None:
    """Raises InvalidInput for a relation that the inventory doesn't have, naming document and field."""
    inventory = frozenset(known)
    for number, document in enumerate(documents):
        for n, label in enumerate(document.labels or ()):
            if label.relation not in inventory:
                raise InvalidInput(
                    f"{name}: document {number} ({document.title[:80]!r}): labels[{n}].r: {label.relation!r} is not in "
                    f"the relation inventory of {len(inventory)}; add it there or correct the label"
                )


@dataclass(frozen=True)
class PairScores:
    """A model's answer for one document."""

    logits: NDArray[Any]  # (pairs, R), class 0 is TH
    evidence: NDArray[Any]  # (pairs, sentences): how much each sentence speaks for the pair, summing to at most 1
