"""The evaluator against figures of the official scripts, and the rules of its parts."""

import pytest

from shared.metrics.relations import (
    Key,
    Prediction,
    by_distance,
    by_frequency,
    by_names,
    facts_of,
    judge,
    parts,
    recall_by_evidence,
    score,
)
from shared.relations.documents import document_of

TOKENS = [list("abcdefgh")] * 3


def entity(*names, sent=0):
    return [{"name": name, "sent_id": sent, "pos": [0, 1], "type": "LOC"} for name in names]


def label(h, t, r, *evidence):
    return {"h": h, "t": t, "r": r, "evidence": list(evidence)}


def document(title, entities, labels):
    return document_of({"title": title, "sents": TOKENS, "vertexSet": entities, "labels": labels})


TRAIN = [
    document(
        "T", [entity("Ulm"), entity("Germany", "DE"), entity("Einstein")], [label(0, 1, "P1", 0), label(2, 0, "P2", 0)]
    )
]
DEV = [
    document(
        "D1",
        [entity("Ulm", "the city"), entity("Germany"), entity("Bob", sent=1), entity("Ann", sent=2)],
        [label(0, 1, "P1", 0), label(2, 0, "P2", 0, 1), label(2, 3, "P3", 1, 2), label(2, 3, "P2")],
    ),
    document("D2", [entity("Kyoto"), entity("Japan")], [label(0, 1, "P1", 0, 1)]),
]
FULL = [
    ("D1", 0, 1, "P1", (0, 2)),
    ("D1", 0, 1, "P1", (0,)),
    ("D1", 2, 0, "P2", (1,)),
    ("D1", 2, 3, "P1", (2,)),
    ("D2", 0, 1, "P1", (0, 1)),
    ("ZZ", 0, 1, "P1", (0,)),
]


def scores(predictions, compat="none"):
    given = [Prediction(Key(*p[:4]), p[4]) for p in predictions]
    return score(judge(given, DEV), facts_of(TRAIN), compat)


@pytest.mark.parametrize(
    ("predictions", "relation", "evidence"),
    [
        pytest.param(FULL, (0.6, 0.6, 0.6), (0.6666667, 0.5714286, 0.6153846), id="duplicates_and_an_unknown_title"),
        pytest.param([("D1", 1, 0, "P1", ())], (0, 0, 0), (0, 0, 0), id="all_wrong"),
        pytest.param([("D2", 0, 1, "P1", (1,))], (1, 0.2, 0.3333333), (1, 0.1428571, 0.25), id="one_right"),
        pytest.param([], (0, 0, 0), (0, 0, 0), id="no_prediction_at_all"),
    ],
)
def test_relation_and_evidence_scores_are_the_official_ones(predictions, relation, evidence):
    found = scores(predictions)
    assert found.relation == pytest.approx(relation, abs=1e-7)
    assert found.evidence == pytest.approx(evidence, abs=1e-7)


def test_ign_takes_out_what_training_knew_and_keeps_recall():
    assert scores(FULL).ign == pytest.approx((0.4999988, 0.6, 0.5454538), abs=1e-7)


def test_docreds_own_script_divides_without_the_small_constant():
    assert scores(FULL, "docred").ign.p == 0.5


def test_redocreds_script_counts_one_gold_evidence_too_many():
    assert scores(FULL, "redocred").evidence.r == pytest.approx(4 / 8)


def test_facts_of_another_language_are_never_seen():
    """Facts must come from the training set in the language of the test, else Ign F1 is F1."""
    spanish = [document("T", [entity("Ulm"), entity("Alemania")], [label(0, 1, "P1", 0)])]
    found = score(judge([Prediction(Key(*FULL[0][:4]))], DEV), facts_of(spanish))
    assert found.ign.p == pytest.approx(found.relation.p, abs=1e-4)


def test_predictions_and_gold_are_split_by_the_same_rule():
    judged = judge([Prediction(Key(*p[:4]), p[4]) for p in FULL], DEV)
    split = parts(judged, by_distance)
    assert {name: (len(j.predicted), len(j.gold)) for name, j in split.items()} == {"intra": (2, 2), "inter": (2, 3)}
    assert set(parts(judged, by_frequency)) == {"long_tail"}
    assert {name: len(j.gold) for name, j in parts(judged, by_names(TRAIN)).items()} == {"seen": 1, "unseen": 4}


def test_recall_is_told_by_the_number_of_evidence_sentences():
    judged = judge([Prediction(Key(*p[:4]), p[4]) for p in FULL], DEV)
    assert recall_by_evidence(judged) == {"0": 0.0, "1": 1.0, "2": pytest.approx(2 / 3)}
