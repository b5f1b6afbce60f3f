"""Aggregates and vote, by the authors' function and by hand."""

import itertools

import numpy as np
import pytest

from workers.insta.scoring import aggregate, by_score, default_k, vote

Q = np.eye(2)
X = np.array([[1, 0], [0.8, 0.6], [0.28, 0.96], [-1, 0]])  # A, B, C1, C2
OFFSETS = np.array([0, 1, 2, 4])
LETTERS = "ABC"


def ranked(how):
    scores = aggregate(Q @ X.T, OFFSETS, how)
    ranking = by_score(scores, np.arange(3), np.arange(3))
    return "".join(LETTERS[t] for t in ranking.tasks), ranking.scores.tolist()


@pytest.mark.parametrize(
    ("how", "order", "scores"),
    [
        pytest.param("mean", "BAC", [0.7, 0.5, 0.06], id="mean"),
        pytest.param("max", "ACB", [1.0, 0.96, 0.8], id="max"),
        pytest.param("mean_of_max", "BCA", [0.7, 0.62, 0.5], id="mean-of-max"),
    ],
)
def test_aggregates_by_hand(how, order, scores):
    found, values = ranked(how)
    assert found == order
    assert values == pytest.approx(scores, abs=1e-9)


def test_the_four_aggregates_give_four_orders():
    voted = "".join(LETTERS[t] for t in vote(Q @ X.T, OFFSETS, np.arange(3)).tasks)
    assert voted == "CAB"  # q1 lists A B C C, q2 lists C B A C
    assert len({voted, *(ranked(how)[0] for how in ("mean", "max", "mean_of_max"))}) == 4


def from_lists(lists, weighted=False):
    """Similarities under which each list is the order of rows; a letter that comes twice has two rows."""
    tasks = sorted({letter for line in lists for letter in line})
    rows = {t: max(line.count(t) for line in lists) for t in tasks}
    offsets = np.cumsum([0, *rows.values()])
    similarities = np.full((len(lists), offsets[-1]), -1.0)
    for number, line in enumerate(lists):
        seen = dict.fromkeys(tasks, 0)
        for place, letter in enumerate(line):
            similarities[number, offsets[tasks.index(letter)] + seen[letter]] = 0.90 - 0.05 * place - 0.01 * number
            seen[letter] += 1
    found = vote(similarities, offsets, np.arange(len(tasks)), weighted=weighted)
    return [tasks[t] for t in found.tasks[:5]]


LISTS = [
    pytest.param(("BACDEFGHIJ", "ACBEDGFIHJ", "CBADFEHGJI"), id="one-row-each"),
    pytest.param(("AAABCDEFGH", "BCAADEFGHI", "BADCAEFHGI"), id="several-rows"),
]


@pytest.mark.parametrize("weighted", [pytest.param(False, id="counts"), pytest.param(True, id="times-cosine")])
@pytest.mark.parametrize("lists", LISTS)
def test_vote_is_the_authors_function(lists, weighted):
    assert from_lists(lists, weighted) == list("BACDE")


@pytest.mark.parametrize("lists", LISTS)
def test_vote_is_the_sum_of_integer_weights(lists):
    weights = {}
    for line in lists:
        for place, letter in enumerate(line):
            weights[letter] = weights.get(letter, 0) + 10 ** (3 * (10 - place))
    assert from_lists(lists) == sorted(weights, key=weights.__getitem__, reverse=True)[:5]


def test_a_weighted_vote_is_a_sum_not_a_comparison_place_by_place():
    lists = np.array([[0.9, 0.5], [0.1, 0.8999]])  # A .9 at place 0 and .1 at place 1; B .8999 and .5
    official = [10**6 * 0.9 + 10**3 * 0.1, 10**6 * 0.8999 + 10**3 * 0.5]
    assert official[1] > official[0]
    assert vote(lists, np.array([0, 1, 2]), np.arange(2), weighted=True).tasks.tolist() == [1, 0]
    assert vote(lists, np.array([0, 1, 2]), np.arange(2)).tasks.tolist() == [0, 1]  # equal counts: A appears first


def test_equal_scores_go_by_the_smaller_id_and_equal_votes_by_first_appearance():
    scores = by_score(np.array([0.5, 0.7, 0.5]), id_rank=np.array([2, 1, 0]), candidates=np.arange(3))
    assert scores.tasks.tolist() == [1, 2, 0]
    tied = vote(np.array([[0.9, 0.9], [0.9, 0.9]]), np.array([0, 1, 2]), np.arange(2))
    assert tied.tasks.tolist() == [0, 1]
    mirrored = vote(np.array([[0.1, 0.9], [0.9, 0.1]]), np.array([0, 1, 2]), np.arange(2))
    assert mirrored.tasks.tolist() == [1, 0]  # both (1, 1): the first list begins with task 1


@pytest.mark.parametrize("how", ["max", "mean", "mean_of_max"])
def test_with_one_instruction_on_both_sides_everything_is_the_cosine(how):
    cosines = np.random.default_rng(0).uniform(-1, 1, (1, 12))
    assert aggregate(cosines, np.arange(13), how).tolist() == cosines[0].tolist()
    order = np.argsort(-cosines[0])
    assert vote(cosines, np.arange(13), np.arange(12)).tasks.tolist() == order[:10].tolist()


def test_a_vote_counts_candidates_only():
    similarities = np.array([[0.9, 0.8, 0.7]])
    assert vote(similarities, np.arange(4), np.array([1, 2])).votes.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("tasks", "k"), [(3, 3), (35, 5), (100, 5), (101, 9), (756, 70), (1524, 141)]
)  # fmt: skip
def test_k_is_five_of_35_and_70_of_756(tasks, k):
    assert default_k(tasks) == k


def test_scores_do_not_depend_on_the_order_of_candidates():
    scores = np.round(np.random.default_rng(1).normal(size=6), 1)
    wanted = by_score(scores, np.arange(6), np.arange(6)).tasks.tolist()
    for order in itertools.permutations(range(6)):
        assert by_score(scores, np.arange(6), np.array(order)).tasks.tolist() == wanted
