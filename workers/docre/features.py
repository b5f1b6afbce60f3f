"""Hashed features of entity pairs for the linear model: rows of a sparse matrix, L2-normalised.

Per ordered pair: types, name words and last words, mention counts, who comes first, sentence distance, and of the
closest pair of mentions the words between and around, single and in pairs, with their direction. All are crossed with
the type pair.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shared.relations.documents import Document, Mention
from workers.docre.pairs import ordered_pairs

MOST_BETWEEN = 12
AROUND = 3
FAR = 6
NAME_WORDS = 6
MIX = np.uint64(0x9E3779B97F4A7C15)


class Closest(NamedTuple):
    """The nearest mentions of a pair."""

    head: Mention
    tail: Mention
    distance: int  # sentences


def feature_matrix(document: Document, buckets: int) -> Any:
    """(pairs, buckets), CSR of float32 with rows of length 1."""
    pairs = ordered_pairs(document)
    own = [_entity_features(document, e) for e in range(len(document.entities))]
    rows: list[NDArray[np.uint64]] = []
    for h, t in pairs.tolist():
        names = [*(_hash("h " + f) for f in own[h]), *(_hash("t " + f) for f in own[t])]
        context = [_hash(f) for f in _context_features(document, closest(document, h, t))]
        kind = np.uint64(_hash(f"{document.entity_type(h)}>{document.entity_type(t)}"))
        rows.append(_crossed(np.array([1, *names, *context], np.uint64), kind, buckets))
    lengths = [len(row) for row in rows]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    indices = np.concatenate(rows).astype(np.int64) if rows else np.zeros(0, np.int64)
    weights = (
        np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32) if rows else np.zeros(0, np.float32)
    )
    return sparse.csr_matrix((weights, indices, indptr), shape=(len(rows), buckets))


def _crossed(hashes: NDArray[np.uint64], kind: np.uint64, buckets: int) -> NDArray[np.uint64]:
    """Buckets of features under a type pair, each once."""
    with np.errstate(over="ignore"):
        mixed = (hashes ^ (kind << np.uint64(32))) * MIX
    return np.unique((mixed >> np.uint64(40)) % np.uint64(buckets))


@lru_cache(maxsize=1_000_000)
def _hash(text: str) -> int:
    return crc32(text.encode())


def _entity_features(document: Document, entity: int) -> list[str]:
    mentions = document.entities[entity]
    words = {word.lower() for mention in mentions for word in mention.name.split()[:NAME_WORDS]}
    last = {mention.name.split()[-1].lower() for mention in mentions if mention.name.split()}
    first = min((m.sent_id, m.start) for m in mentions)
    is_first = first == min((m.sent_id, m.start) for entity_ in document.entities for m in entity_)
    named = [f"name {word}" for word in sorted(words)] + [f"last {word}" for word in sorted(last)]
    return [*named, f"count {min(len(mentions), 4)}", f"first {is_first}", f"sentence {min(first[0], 2)}"]


def closest(document: Document, head: int, tail: int) -> Closest:
    """By sentences, then by words."""
    _, _, _, h, t = min(
        (abs(h.sent_id - t.sent_id), abs(h.start - t.start) if h.sent_id == t.sent_id else 0, number, h_n, t_n)
        for number, (h_n, t_n, h, t) in enumerate(
            (h_n, t_n, h, t)
            for h_n, h in enumerate(document.entities[head])
            for t_n, t in enumerate(document.entities[tail])
        )
    )
    a, b = document.entities[head][h], document.entities[tail][t]
    return Closest(a, b, abs(a.sent_id - b.sent_id))


def _context_features(document: Document, near: Closest) -> Iterable[str]:
    head, tail, distance = near
    is_forward = (head.sent_id, head.start) < (tail.sent_id, tail.start)
    way = ">" if is_forward else "<"
    yield f"distance {min(distance, FAR)}{way}"
    for side, mention in (("h", head), ("t", tail)):
        words = document.sentences[mention.sent_id]
        yield from (f"{side} before {w.lower()}" for w in words[max(0, mention.start - AROUND) : mention.start])
        yield from (f"{side} after {w.lower()}" for w in words[mention.end : mention.end + AROUND])
    if distance == 0:
        first, second = (head, tail) if is_forward else (tail, head)
        yield from _between(document.sentences[head.sent_id][first.end : second.start], way)


def _between(words: Sequence[str], way: str) -> Iterable[str]:
    if len(words) > MOST_BETWEEN:
        yield f"many {way}"
        return
    lower = [word.lower() for word in words]
    yield f"between {len(lower)}{way}"
    yield from (f"between {word}{way}" for word in lower)
    padded = ["#", *lower, "#"]
    yield from (f"between {a} {b}{way}" for a, b in pairwise(padded))
