"""A statistical word aligner over all sentences of a shard, for engines that tell nothing of where words went.

IBM model 2 with the diagonal prior of fast_align (Dyer et al. 2013): p(a_j = i) ∝ exp(−λ |i/m − j/n|), translation
probabilities by five rounds of EM, both directions joined by grow-diag-final-and (Koehn et al. 2003). Deterministic.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.relations.text import Span, word_spans

ROUNDS = 5
TENSION = 4.0  # λ
NULL = 0.08  # p0, chance of coming from no word
SMOOTHING = 1e-6
NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
Ints = NDArray[np.int64]
Links = set[tuple[int, int]]


def align_all(pairs: Sequence[tuple[str, str]]) -> list[tuple[tuple[Span, Span], ...]]:
    """Word links as character spans, for each (source text, target text)."""
    sources, targets = ([word_spans(pair[side]) for pair in pairs] for side in (0, 1))
    source_ids, target_ids = (
        _numbered(
            [
                [pair[side][start:end].lower() for start, end in spans]
                for pair, spans in zip(pairs, all_spans, strict=True)
            ]
        )
        for side, all_spans in ((0, sources), (1, targets))
    )
    forward = _viterbi(source_ids, target_ids)
    backward = _viterbi(target_ids, source_ids)
    found = []
    for n in range(len(pairs)):
        f = {(int(i), j) for j, i in enumerate(forward[n]) if i >= 0}
        b = {(i, int(j)) for i, j in enumerate(backward[n]) if j >= 0}
        links = sorted(grow_diag_final(f, b))
        found.append(tuple((sources[n][i], targets[n][j]) for i, j in links))
    return found


def _numbered(sentences: Sequence[Sequence[str]]) -> list[Ints]:
    numbers: dict[str, int] = {}
    return [np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int64) for words in sentences]


def _viterbi(sources: Sequence[Ints], targets: Sequence[Ints]) -> list[Ints]:
    """For each target word the source word it comes from, −1: none."""
    size = 1 + max((int(s.max()) for s in sources if len(s)), default=0)
    width = 1 + max((int(t.max()) for t in targets if len(t)), default=0)
    cells = [(s[None, :] * width + t[:, None]) for s, t in zip(sources, targets, strict=True)]  # (n, m) each
    flat = np.concatenate([cell.ravel() for cell in cells]) if cells else np.zeros(0, np.int64)
    keys, index = np.unique(flat, return_inverse=True)
    table = np.full(len(keys), 1.0 / max(width, 1))
    ends = np.cumsum([cell.size for cell in cells])
    where = (
        [part.reshape(cell.shape) for part, cell in zip(np.split(index, ends[:-1]), cells, strict=True)]
        if cells
        else []
    )
    priors = [_diagonal(*cell.shape) for cell in cells]
    for _ in range(ROUNDS):
        counts = np.full(len(keys), SMOOTHING)
        for prior, at in zip(priors, where, strict=True):
            if at.size:
                weight = prior * table[at]
                np.add.at(counts, at, weight / (weight.sum(axis=1, keepdims=True) + NULL / max(width, 1)))
        totals = np.bincount(keys // width, weights=counts, minlength=size)
        table = counts / totals[keys // width]
    return [_best(prior, table[at], width) for prior, at in zip(priors, where, strict=True)]


def _best(prior: NDArray[Any], table: NDArray[Any], width: int) -> Ints:
    if not table.size:
        return np.full(len(table), -1, np.int64)
    weight = prior * table
    best = weight.argmax(axis=1)
    return np.where(weight.max(axis=1) > NULL / max(width, 1), best, -1).astype(np.int64)


def _diagonal(n: int, m: int) -> NDArray[np.float64]:
    """(n target words, m source words): the prior of the alignment, rows summing to 1 − p0."""
    j, i = (np.arange(n) + 1)[:, None] / max(n, 1), (np.arange(m) + 1)[None, :] / max(m, 1)
    weight = np.exp(-TENSION * np.abs(i - j))
    scaled: NDArray[np.float64] = (1 - NULL) * weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    return scaled


def grow_diag_final(forward: Links, backward: Links) -> Links:
    """grow-diag-final-and: the intersection, grown along neighbours in the union, then pairs of free words."""
    union, links = forward | backward, forward & backward
    rows, columns = {i for i, _ in links}, {j for _, j in links}
    has_grown = True
    while has_grown:
        has_grown = False
        for i, j in sorted(links):
            for di, dj in NEIGHBOURS:
                near = (i + di, j + dj)
                if near in union and near not in links and (near[0] not in rows or near[1] not in columns):
                    links.add(near)
                    rows.add(near[0])
                    columns.add(near[1])
                    has_grown = True
    for i, j in [*sorted(forward), *sorted(backward)]:
        if i not in rows and j not in columns:
            links.add((i, j))
            rows.add(i)
            columns.add(j)
    return links
