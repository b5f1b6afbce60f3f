"""Text metrics by worked and published numbers."""

import pytest

from shared.metrics.text import (
    bleu4,
    common_subsequence,
    distinct_ngrams,
    edit_distance,
    exact_match,
    json_match,
    rouge_l,
    rouge_n,
    text_figures,
)

REFERENCE = "the cat sat on the mat and looked at the dog"
GENERATED = "the cat sat on the mat and looked at a dog"


def test_rouge_and_bleu_are_those_of_torchmetrics():
    assert rouge_n(GENERATED, REFERENCE, 1) == pytest.approx(0.909091, abs=1e-6)
    assert rouge_n(GENERATED, REFERENCE, 2) == pytest.approx(0.8)
    assert rouge_l(GENERATED, REFERENCE) == pytest.approx(0.909091, abs=1e-6)
    assert bleu4([(GENERATED, REFERENCE)]) == pytest.approx(0.807055771, abs=1e-7)  # theirs is float32


def test_punctuation_stays_on_its_word():
    assert rouge_n("The cat sat.", "the cat sat", 1) == pytest.approx(0.666667, abs=1e-6)
    assert rouge_n("The cat sat.", "the cat sat", 2) == pytest.approx(0.5)


def test_equal_texts_score_one_and_unlike_ones_nothing():
    same = text_figures([(REFERENCE, REFERENCE)])
    assert {name: value for name, value in same.items() if value != 1} == {"json_match": 0.0, "edit_distance": 0.0}
    assert bleu4([("a b c d", "e f g h")]) == 0.0
    assert rouge_l("", "a") == 0.0


def test_bleu_is_over_the_corpus_and_short_answers_pay():
    pairs = [(GENERATED, REFERENCE), ("the cat sat on", REFERENCE)]
    assert 0 < bleu4(pairs) < bleu4(pairs[:1])


def test_distances_are_levenshteins():
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3
    assert common_subsequence("ABCBDAB", "BDCABA") == 4


def test_json_is_compared_as_values():
    assert json_match([('{"a": 1, "b": 2}', '{"b": 2,"a": 1}'), ("{", "{}")]) == 0.5
    assert exact_match([(" yes\n", "yes"), ("no", "yes")]) == 0.5


def test_distinct_ngrams_fall_where_text_loops():
    assert distinct_ngrams([list(range(20))], 4) == 1.0
    assert distinct_ngrams([[1, 2] * 10], 4) == pytest.approx(2 / 17)
    assert distinct_ngrams([[1, 2]], 4) is None
