"""Retrieval as the official code does it; the scores are its own, run on these nodes."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from shared.jobs.catalog.govsim import SimulateParams
from workers.govsim.memory import Memory, Node, Retrieval, cosine, retrieval_of, retrieve

NOW = datetime(2024, 2, 1, 1)
LATER = NOW + timedelta(days=60)
OFFICIAL = Retrieval(recency=0.5, importance=3.0, relevance=2.0, decay=0.99, newest_first=False)
QUERY = np.array([1.0, 0.0, 0.0])
EMBEDDINGS = {1: [1, 0, 0], 2: [1, 0, 0], 3: [1, 0, 0], 4: [1, 1, 0], 5: [0, 0, 1], 6: [1, 0, 0], 7: [0, 1, 1]}


def node(id, type="thought", importance=10, always=False, expiration=LATER, created=NOW):
    return Node(id, type, f"node {id}", created, expiration, importance, always)


@pytest.fixture
def memory():
    return Memory([
        node(1, importance=8),
        node(2, "event", always=True, expiration=datetime(2024, 1, 31, 1)),
        node(3, "chat", importance=9),
        node(4, importance=5),
        node(5, always=True),
        node(6, importance=1),
        node(7, "event", always=True),
    ])  # fmt: skip


def embeddings(nodes):
    return np.array([EMBEDDINGS[node.id] for node in nodes], dtype=float)


def test_what_is_forgotten_and_what_was_chatted_does_not_come_to_mind(memory):
    assert [node.id for node in memory.candidates(NOW)] == [1, 4, 5, 6, 7]


def test_a_node_is_gone_at_the_minute_of_its_expiration_and_not_before():
    memory = Memory([node(1, expiration=NOW)])
    assert memory.candidates(NOW) == []
    assert len(memory.candidates(NOW - timedelta(minutes=1))) == 1


def test_a_node_of_the_future_is_visible():
    assert len(Memory([node(1, created=LATER - timedelta(days=1))]).candidates(NOW)) == 1


def test_scores_are_the_official_ones(memory):
    nodes = memory.candidates(NOW)
    scores = dict(zip((node.id for node in nodes), OFFICIAL.scores(nodes, embeddings(nodes), QUERY), strict=True))
    expected = {1: 4.833333, 4: 3.242547, 5: 3.490050, 6: 2.485150, 7: 3.480298}
    assert scores == pytest.approx(expected, abs=6e-7)


def test_always_included_nodes_come_first_in_the_order_of_storing(memory):
    nodes = memory.candidates(NOW)
    best = OFFICIAL.best(nodes, embeddings(nodes), QUERY, 4)
    assert [nodes[place].id for place in best] == [5, 7, 1, 4]


@pytest.mark.parametrize(
    ("queries", "ids"),
    [
        pytest.param([[1, 0, 0]], {5, 7, 1}, id="first-query"),
        pytest.param([[0, 1, 0]], {5, 7, 4}, id="second-query"),
        pytest.param([[1, 0, 0], [0, 1, 0]], {5, 7, 1, 4}, id="their-union"),
    ],
)
def test_each_focal_point_brings_its_three_best(memory, queries, ids):
    nodes = memory.candidates(NOW)
    found = retrieve(nodes, embeddings(nodes), np.array(queries, dtype=float), 3, OFFICIAL)
    assert {node.id for node in found} == ids


def test_recency_favours_what_is_old_and_newest_first_turns_it_round():
    nodes = [node(id, importance=5) for id in (1, 2, 3)]
    same = np.ones((3, 3))
    assert np.diff(OFFICIAL.scores(nodes, same, QUERY)).max() < 0
    newest = Retrieval(0.5, 3.0, 2.0, 0.99, newest_first=True)
    assert np.diff(newest.scores(nodes, same, QUERY)).min() > 0


def test_memories_are_told_by_creation_and_at_one_time_by_id():
    nodes = [node(1, created=NOW), node(2, created=NOW - timedelta(days=1)), node(3, created=NOW)]
    found = retrieve(nodes, np.ones((3, 3)), np.ones((1, 3)), 3, OFFICIAL)
    assert [node.id for node in found] == [2, 1, 3]


def test_fewer_memories_than_asked_for_are_all_of_them():
    assert len(retrieve([node(1)], np.ones((1, 3)), np.ones((2, 3)), 10, OFFICIAL)) == 1
    assert retrieve([], np.empty((0, 3)), np.ones((1, 3)), 10, OFFICIAL) == []


def test_a_vector_of_zeros_is_like_nothing():
    assert cosine(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([1.0, 1.0])).tolist() == pytest.approx([0, 1])


def test_nodes_are_numbered_and_without_a_rating_always_included():
    memory = Memory()
    first, second = memory.store("event", "a", (NOW, LATER)), memory.store("thought", "b", (NOW, LATER), 4)
    assert (first.id, first.importance, first.always_include) == (1, 10, True)
    assert (second.id, second.importance, second.always_include) == (2, 4, False)


def test_a_node_survives_its_line():
    one = node(3, "chat", 7)
    assert Node.from_line({"run": 0, "agent": 2, **one.to_line()}) == one


def test_the_defaults_are_the_official_weights():
    assert retrieval_of(SimulateParams()) == OFFICIAL
    assert retrieval_of(SimulateParams(recency_order="newest_first")).newest_first
