"""Metrics of document-level relation extraction, as the DocRED and Re-DocRED evaluators define them.

A prediction's key is (title, h, t, r); duplicates are merged, the first of a stable sort by key wins, so its evidence
counts. Every 0/0 is 0.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from shared.relations.documents import Document, Triple

Compat = Literal["none", "docred", "redocred"]
Fact = tuple[str, str, str]
IGN_EPSILON = 1e-5  # of Re-DocRED's script; DocRED's has none
LONG_DISTANCE = 5  # sentences; more is "long"
FREQUENT = frozenset({"P17", "P131", "P27", "P150", "P175", "P577", "P463", "P527", "P495", "P361"})


class Key(NamedTuple):
    """What a prediction and a gold label are matched by."""

    title: str
    head: int
    tail: int
    relation: str

    @property
    def triple(self) -> Triple:
        return Triple(self.head, self.tail, self.relation)


class PRF(NamedTuple):
    """Precision, recall, F1."""

    p: float
    r: float
    f1: float


@dataclass(frozen=True)
class Prediction:
    """One predicted relation."""

    key: Key
    evidence: tuple[int, ...] = ()


class Scores(NamedTuple):
    """One evaluation."""

    relation: PRF
    ign: PRF
    evidence: PRF
    predicted: int
    gold: int
    correct: int


class Judged(NamedTuple):
    """Merged predictions and gold of some documents."""

    predicted: Mapping[Key, frozenset[int]]
    gold: Mapping[Key, frozenset[int]]
    documents: Mapping[str, Document]


def prf(p: float, r: float) -> PRF:
    return PRF(p, r, 2 * p * r / (p + r) if p + r else 0.0)


def merged(predictions: Iterable[Prediction]) -> dict[Key, frozenset[int]]:
    """Evidence by key; the first of a stable sort wins."""
    found: dict[Key, frozenset[int]] = {}
    for prediction in sorted(predictions, key=lambda each: each.key):
        found.setdefault(prediction.key, frozenset(prediction.evidence))
    return found


def gold_of(documents: Iterable[Document]) -> dict[Key, frozenset[int]]:
    return merged(
        Prediction(Key(document.title, *label.triple), label.evidence or ())
        for document in documents
        for label in document.labels or ()
    )


def judge(predictions: Iterable[Prediction], documents: Sequence[Document]) -> Judged:
    return Judged(merged(predictions), gold_of(documents), {document.title: document for document in documents})


def facts_of(documents: Iterable[Document]) -> frozenset[Fact]:
    """{(head name, tail name, r)} over all mention pairs of the training labels."""
    return frozenset(
        (head.name, tail.name, label.relation)
        for document in documents
        for label in document.labels or ()
        for head in document.entities[label.head]
        for tail in document.entities[label.tail]
    )


def score(judged: Judged, facts: frozenset[Fact] = frozenset(), compat: Compat = "none") -> Scores:
    """Relations, relations not seen in training (Ign) and evidence."""
    correct = judged.predicted.keys() & judged.gold.keys()
    n_predicted, n_gold, tp = len(judged.predicted), len(judged.gold), len(correct)
    relation = prf(tp / n_predicted if n_predicted else 0.0, tp / n_gold if n_gold else 0.0)
    seen = sum(is_seen(key, judged.documents[key.title], facts) for key in correct) if facts else 0
    left = n_predicted - seen + (0.0 if compat == "docred" else IGN_EPSILON)
    ign = prf((tp - seen) / left if n_predicted and left else 0.0, relation.r)
    return Scores(relation, ign, _evidence(judged, correct, compat), n_predicted, n_gold, tp)


def is_seen(key: Key, document: Document, facts: frozenset[Fact]) -> bool:
    """Whether any of the pair's name pairs is a training fact of this relation."""
    heads, tails = document.entities[key.head], document.entities[key.tail]
    return any((head.name, tail.name, key.relation) in facts for head in heads for tail in tails)


def _evidence(judged: Judged, correct: Iterable[Key], compat: Compat) -> PRF:
    hits = sum(len(judged.predicted[key] & judged.gold[key]) for key in correct)
    given = sum(len(evidence) for key, evidence in judged.predicted.items() if key.title in judged.documents)
    wanted = sum(map(len, judged.gold.values())) + (1 if compat == "redocred" else 0)
    return prf(hits / given if given else 0.0, hits / wanted if wanted else 0.0)


# Parts of a test set --------------------------------------------------------------------------------------------------

Part = Callable[[Key, Document], str | None]
"""Names the part that a key belongs to; None: to none."""


def parts(judged: Judged, part: Part) -> dict[str, Judged]:
    """Predictions and gold split by the same rule; predictions for unknown documents belong to no part."""
    found: dict[str, Judged] = {}
    for which in ("predicted", "gold"):
        for key, evidence in getattr(judged, which).items():
            name = part(key, judged.documents[key.title]) if key.title in judged.documents else None
            if name is not None:
                own = found.setdefault(name, Judged({}, {}, judged.documents))
                getattr(own, which)[key] = evidence
    return dict(sorted(found.items()))


def sentence_distance(document: Document, head: int, tail: int) -> int:
    """The smallest difference of sentence numbers over the pair's mentions."""
    return min(abs(h.sent_id - t.sent_id) for h in document.entities[head] for t in document.entities[tail])


def by_distance(key: Key, document: Document) -> str:
    return "intra" if sentence_distance(document, key.head, key.tail) == 0 else "inter"


def by_long_distance(key: Key, document: Document) -> str | None:
    return "long" if sentence_distance(document, key.head, key.tail) > LONG_DISTANCE else None


def by_frequency(key: Key, document: Document) -> str:
    return "frequent" if key.relation in FREQUENT else "long_tail"


def by_relation(key: Key, document: Document) -> str:
    return key.relation


def by_names(training: Sequence[Document]) -> Part:
    """`seen`: head and tail both have a name that some training entity has."""
    names = {mention.name for document in training for entity in document.entities for mention in entity}

    def part(key: Key, document: Document) -> str:
        ends = (document.entities[key.head], document.entities[key.tail])
        return "seen" if all(any(m.name in names for m in entity) for entity in ends) else "unseen"

    return part


def recall_by_evidence(judged: Judged) -> dict[str, float]:
    """Recall of gold labels by how many evidence sentences they have: 0, 1, 2, 3+."""
    sizes: dict[str, list[bool]] = {}
    for key, evidence in judged.gold.items():
        size = str(len(evidence)) if len(evidence) < 3 else "3+"
        sizes.setdefault(size, []).append(key in judged.predicted)
    return {size: sum(found) / len(found) for size, found in sorted(sizes.items())}
