"""What a table of types gets: the most frequent relation of each pair of entity types."""

from collections import Counter
from collections.abc import Sequence

from shared.metrics.relations import Key, Prediction, sentence_distance
from shared.relations.documents import Document
from workers.docre.pairs import ordered_pairs

TypePair = tuple[str, str]


def most_frequent_relations(training: Sequence[Document]) -> dict[TypePair, str]:
    """By type pair; the smaller id on a tie."""
    counts: dict[TypePair, Counter[str]] = {}
    for document in training:
        for label in document.labels or ():
            pair = (document.entity_type(label.head), document.entity_type(label.tail))
            counts.setdefault(pair, Counter())[label.relation] += 1
    return {pair: min(found, key=lambda relation: (-found[relation], relation)) for pair, found in counts.items()}


def predict_most_frequent(
    documents: Sequence[Document], table: dict[TypePair, str], *, same_sentence: bool
) -> list[Prediction]:
    """Its relation for every pair, or for every pair that shares a sentence."""
    return [
        Prediction(Key(document.title, h, t, relation))
        for document in documents
        for h, t in ordered_pairs(document).tolist()
        if (relation := table.get((document.entity_type(h), document.entity_type(t)))) is not None
        and not (same_sentence and sentence_distance(document, h, t))
    ]
