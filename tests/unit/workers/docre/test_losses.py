"""Losses, decoding, pooling, windows and fusion: against the official code's figures and autograd."""

import math

import numpy as np
import pytest
import torch

from workers.docre.adaptive_threshold import adaptive_threshold_loss, decode
from workers.docre.atlop.fusion import (
    best_threshold,
    evidence_sentences,
    fused,
    fused_labels,
    pseudo_document,
    relative_scores,
)
from workers.docre.atlop.losses import adaptive_threshold, attention_loss, evidence_loss, sentence_attention
from workers.docre.atlop.model import grouped_outer
from workers.docre.atlop.pooling import ATLOP_EPSILON, pool
from workers.docre.atlop.windows import Encoded, Specials, encode
from workers.docre.pairs import PairScores

ONE, TWO = ([1, 2, -1, 0.5], [0, 1, 0, 1]), ([0.3, -0.2, 0.1, -1.5], [1, 0, 0, 0])


@pytest.mark.parametrize(
    ("logits", "labels", "loss"),
    [
        pytest.param([[0, 0, 0]], [[0, 1, 0]], 1.3862943611, id="2_ln_2"),
        pytest.param([[0, 0, 0]], [[1, 0, 0]], 1.0986122887, id="ln_3"),
        pytest.param([ONE[0]], [ONE[1]], 2.5556655793, id="two_positives"),
        pytest.param([ONE[0], TWO[0]], [ONE[1], TWO[1]], 1.7537698820, id="a_batch"),
    ],
)
def test_the_adaptive_threshold_loss_is_the_official_one(logits, labels, loss):
    assert adaptive_threshold_loss(np.array(logits, float), np.array(labels, float)).loss == pytest.approx(
        loss, abs=1e-9
    )
    ours = adaptive_threshold(torch.tensor(logits, dtype=torch.float64), torch.tensor(labels, dtype=torch.float64))
    assert float(ours) == pytest.approx(loss, abs=1e-9)


def test_the_gradient_written_by_hand_is_autograds():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((40, 7)), (rng.random((40, 7)) < 0.2).astype(float)
    leaf = torch.tensor(logits, requires_grad=True)
    adaptive_threshold(leaf, torch.tensor(labels)).backward()
    np.testing.assert_allclose(adaptive_threshold_loss(logits, labels).gradient, leaf.grad.numpy(), atol=1e-12)


def test_the_gradient_is_the_slope_of_the_loss():
    rng = np.random.default_rng(1)
    logits, labels = rng.standard_normal((3, 4)), np.array([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0]], float)
    gradient = adaptive_threshold_loss(logits, labels).gradient
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-6
        slope = (
            adaptive_threshold_loss(logits + step, labels).loss - adaptive_threshold_loss(logits - step, labels).loss
        ) / 2e-6
        assert gradient[index] == pytest.approx(slope, abs=1e-8)


def test_the_labels_are_not_changed():
    """The official loss writes into the labels it is given."""
    labels = np.array([[1.0, 1.0, 0.0]])
    adaptive_threshold_loss(np.zeros((1, 3)), labels)
    tensor = torch.tensor(labels)
    adaptive_threshold(torch.zeros(1, 3, dtype=torch.float64), tensor)
    assert labels.tolist() == tensor.tolist() == [[1, 1, 0]]


@pytest.mark.parametrize(
    ("logits", "cap", "decoded"),
    [
        pytest.param([1, 2, 3, 0.5], None, [0, 1, 1, 0], id="two"),
        pytest.param([1, 0, 0.5, 1], None, [1, 0, 0, 0], id="none_above"),
        pytest.param([0, 1, 2, 3], None, [0, 1, 1, 1], id="all"),
        pytest.param([1, 2, 3, 0.5], 1, [0, 0, 1, 0], id="cap_1"),
        pytest.param([1, 0, 0.5, 1], 1, [1, 0, 0, 0], id="cap_1_none"),
        pytest.param([0, 1, 2, 3], 1, [0, 0, 0, 1], id="cap_1_best"),
        pytest.param([0, 2, 2, 2], 2, [0, 1, 1, 1], id="ties_let_more_through"),
    ],
)
def test_decoding_is_the_official_one(logits, cap, decoded):
    assert decode(np.array([logits], float), cap).astype(int).tolist() == [decoded]


H = [[0, 0], [1, 0], [0, 2], [3, 1], [-1, 4]]
FIRST = [[0.2] * 5, [0.1, 0.5, 0.2, 0.1, 0.1], [0, 0.25, 0.25, 0.25, 0.25], [0.4, 0.1, 0.1, 0.3, 0.1], [0.2] * 5]
SECOND = [
    [0.2] * 5,
    [0.3, 0.1, 0.1, 0.4, 0.1],
    [0.1, 0.2, 0.3, 0.2, 0.2],
    [0, 0.5, 0.5, 0, 0],
    [0.6, 0.1, 0.1, 0.1, 0.1],
]


def test_localized_context_is_the_official_one():
    """Entity 0 at starts 0 and 2, entity 1 at 1, offset 1."""
    states, attention = torch.tensor(H, dtype=torch.float64), torch.tensor([FIRST, SECOND], dtype=torch.float64)
    pooled = pool(states, attention, [[1, 3], [2]], torch.tensor([[0, 1], [1, 0]]), ATLOP_EPSILON)
    assert pooled.heads[0].tolist() == pytest.approx([3.1269281, 1.3132616], abs=1e-6)
    assert pooled.tails[0].tolist() == [0, 2]
    assert pooled.contexts[0].tolist() == pytest.approx([0.9192090, 1.2049091], abs=1e-6)
    assert pooled.contexts[1].tolist() == pytest.approx(pooled.contexts[0].tolist())


def test_a_mention_past_the_end_of_a_cut_document_is_a_vector_of_zeros():
    states, attention = torch.ones(3, 2), torch.full((1, 3, 3), 1 / 3)
    pooled = pool(states, attention, [[1], [9]], torch.tensor([[0, 1]]), ATLOP_EPSILON)
    assert pooled.tails[0].tolist() == [0, 0]
    assert torch.isfinite(pooled.contexts).all()


def test_two_windows_cover_a_long_document():
    """600 pieces; the encoder answers with token id and position in its window."""

    def run(ids):
        states = torch.stack([ids.double(), torch.arange(len(ids)).double()], dim=1)
        return Encoded(states, torch.full((2, len(ids), len(ids)), 1 / len(ids), dtype=torch.float64))

    ids = torch.arange(600)
    found = encode(ids, run, Specials([0], [599]))
    expected = {88: 88, 89: 45, 300: 256, 510: 466, 511: 423, 599: 511}
    assert {at: float(found.states[at, 1]) for at in expected} == expected
    assert found.states[:, 0].tolist() == list(range(600))
    assert torch.allclose(found.attention.sum(dim=-1), torch.ones(2, 600, dtype=torch.float64))


Q = torch.tensor([[0.1, 0.2, 0.3, 0.1, 0.2, 0.1], [0, 0.5, 0.1, 0.1, 0.3, 0], [0.2, 0.2, 0.2, 0.2, 0.1, 0.1]])
GOLD, HAS = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), torch.tensor([True, True, False])


def test_evidence_is_the_attention_that_each_sentence_gets():
    s = sentence_attention(Q, [(1, 3), (3, 5)])
    torch.testing.assert_close(s, torch.tensor([[0.5, 0.3], [0.6, 0.4], [0.4, 0.3]]))
    assert float(evidence_loss(s, GOLD, HAS)) == pytest.approx(0.3567791, abs=1e-6)


def test_pairs_without_evidence_do_not_dilute_the_loss_unless_asked():
    s = sentence_attention(Q, [(1, 3), (3, 5)])
    all_have = torch.tensor([True, True, True])
    assert float(evidence_loss(s, GOLD, all_have)) == pytest.approx(0.3567791, abs=1e-6)
    assert float(evidence_loss(s, GOLD, all_have, compat=True)) < 0.3567791
    assert float(evidence_loss(s, torch.zeros(3, 2), all_have)) == 0


def test_a_student_with_the_teachers_attention_has_nothing_to_learn():
    assert float(attention_loss(Q, Q)) == pytest.approx(0, abs=1e-7)
    assert float(attention_loss(Q, Q.flip(1))) > 0


def test_the_bilinear_layer_multiplies_within_groups():
    """d = 4, k = 2: groups (a, b) and (c, d), each group's outer product."""
    h, t = torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[5.0, 6, 7, 8]])
    assert grouped_outer(h, t, 2).tolist() == [[5, 6, 10, 12, 21, 24, 28, 32]]


@pytest.mark.parametrize(
    ("classes", "relative"),
    [
        pytest.param([2, 0, 1, 3], [1, 0, -1, -1.5], id="th_among_them"),
        pytest.param([2, 5, 1, 3], [3.5, 2.5, 1.5, 1], id="th_not_among_them"),
    ],
)
def test_scores_are_relative_to_th(classes, relative):
    assert [each.score for each in relative_scores([3, 2, 1, 0.5], classes)] == relative


def test_fusion_accepts_what_both_accept_and_counts_a_missing_side():
    assert fused(1, 2) == float("inf")
    assert fused(1, -3) == -2
    assert fused(1, None) == -9
    assert best_threshold([3, 2, 1], [True, True, False], 2) == 1.5


def test_a_stored_threshold_does_not_look_at_gold():
    """The official code's cut depends on gold labels; ours is `score > threshold`."""
    cut = best_threshold([3, 2, 2, 1], [True, False, True, False], 2)
    assert [score > cut for score in (3, 2, 2, 1)] == [True, True, True, False]


def test_a_threshold_below_what_both_accept_is_a_number():
    assert best_threshold([math.inf, 2, 1], [True, False, False], 1) == 2
    assert best_threshold([], [], 3) == 1e9


def test_evidence_is_joined_by_the_first_sentence_of_who_has_no_mention_in_it(document):
    whole = document(
        sentences=("Ada sings .", "It rains .", "Lund is old .", "Lund is far ."),
        mentions=[[(0, 0, 1, "PER")], [(2, 0, 1, "LOC"), (3, 0, 1, "LOC")]],
    )
    assert evidence_sentences(whole, 0, 1, [2]) == {0, 2}
    assert evidence_sentences(whole, 0, 1, [1]) == {0, 1, 2}
    assert evidence_sentences(whole, 0, 1, []) == set()


def test_a_pseudo_document_holds_its_sentences_and_every_entity_in_them(document):
    whole = document(
        sentences=("Ada sings .", "It rains on Bob .", "Lund is old ."),
        mentions=[[(0, 0, 1, "PER")], [(1, 3, 4, "PER")], [(2, 0, 1, "LOC")]],
    )
    part = pseudo_document(whole, frozenset({0, 2}))
    assert part.document.sentences == (("Ada", "sings", "."), ("Lund", "is", "old", "."))
    assert [[m.sent_id for m in entity] for entity in part.document.entities] == [[0], [1]]
    assert part.entities == {0: 0, 2: 1}


class Fixed:
    """Scores (0, 1) by how many sentences it sees: the whole document refuses P1, the evidence alone accepts it."""

    seen = 0

    def scores_of(self, documents):
        self.seen += len(documents)
        return [
            PairScores(np.array([[0.0, 3.0 if len(d.sentences) == 1 else -1.0]] * 2), np.zeros((2, 1)))
            for d in documents
        ]


def test_labels_get_a_second_score_from_their_evidence_and_equal_evidence_is_encoded_once(document):
    whole = document(
        sentences=("Ada was born in Lund .", "It rains ."), mentions=[[(0, 0, 1, "PER")], [(0, 4, 5, "LOC")]]
    )
    scores = PairScores(np.array([[0.0, -1.0], [0.0, 2.0]]), np.array([[0.9, 0.1], [0.9, 0.1]]))
    scorer = Fixed()
    labels = fused_labels(whole, scores, scorer, 0.2, 8)
    assert scorer.seen == 1
    assert [(label.row, label.relation, label.score) for label in labels] == [(0, 1, 2.0), (1, 1, math.inf)]
    nothing = fused_labels(whole, PairScores(scores.logits, np.zeros((2, 2))), scorer, 0.2, 8)
    assert [label.score for label in nothing] == [-11.0, -8.0]
