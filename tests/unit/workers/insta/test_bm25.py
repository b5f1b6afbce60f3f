"""BM25: the closed form and bm25s 0.3.16 agree on these."""

import pytest

from workers.insta.bm25 import BM25, contributions, document_frequencies, words_of

DOCUMENTS = [
    "sort the list of numbers",
    "summarize the news article",
    "sort words alphabetically in the list",
    "write a question about the article",
]
NO_STOP_WORDS = frozenset()


@pytest.mark.parametrize(
    ("query", "scores"),
    [
        pytest.param("sort list", [0.5545, 0, 0.5087, 0], id="sort-list"),
        pytest.param("article question", [0, 0.3047, 0, 0.7588], id="article-question"),
    ],
)
def test_scores(query, scores):
    found = BM25.of(DOCUMENTS, NO_STOP_WORDS).scores(query, NO_STOP_WORDS)
    assert found.tolist() == pytest.approx(scores, abs=5e-5)


def test_words_are_lower_case_of_two_letters_without_stop_words():
    assert words_of("The List, a B2 list's END") == ["list", "b2", "list", "end"]


def test_contributions_sum_to_the_score():
    terms, bm25 = document_frequencies(DOCUMENTS), BM25.of(DOCUMENTS)
    for number, text in enumerate(DOCUMENTS):
        parts = contributions("sort the article list list", text, terms)
        assert sum(parts.values()) == pytest.approx(bm25.scores("sort the article list list")[number])
    assert set(contributions("sort question", DOCUMENTS[0], terms)) == {"sort"}


def test_an_unknown_word_scores_nothing():
    assert BM25.of(DOCUMENTS).scores("zebra").tolist() == [0] * 4
