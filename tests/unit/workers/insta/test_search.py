"""Exact search: brute force over the same float16 vectors, with FAISS and without."""

import importlib.util
import time
from types import SimpleNamespace

import numpy as np
import pytest

from workers.insta import search
from workers.insta.retrieval import Retriever, Rules, Target, Vectors
from workers.insta.search import Searcher

D = 64
BACKS = [
    pytest.param(True, id="faiss", marks=pytest.mark.skipif(not importlib.util.find_spec("faiss"), reason="no faiss")),
    pytest.param(False, id="numpy"),
]


def unit_rows(rows, d=D, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("use_faiss", BACKS)
def test_ids_are_those_of_brute_force_over_the_same_vectors(use_faiss):
    wide = unit_rows(3_000)
    halves = wide.astype(np.float16)
    searcher = Searcher(halves, use_faiss)
    for query in unit_rows(40, seed=1):
        found = searcher.nearest(query, 10)
        brute = halves.astype(np.float32) @ query  # float32 accumulation
        assert found.rows.tolist() == np.argsort(-brute, kind="stable")[:10].tolist()
        assert found.cosines == pytest.approx(np.sort(brute)[::-1][:10], abs=1e-6)
        true = np.argsort(-(wide @ query))[:10]  # against float32 vectors: near ties below 1e-3 may swap
        assert all(row in true or abs(wide[row] @ query - wide[true[-1]] @ query) < 1e-3 for row in found.rows)


@pytest.mark.parametrize("use_faiss", BACKS)
def test_only_allowed_rows_are_found(use_faiss):
    halves, query = unit_rows(500).astype(np.float16), unit_rows(1, seed=3)[0]
    allowed = np.arange(500) % 7 == 0
    found = Searcher(halves, use_faiss).nearest(query, 200, allowed)
    scores = halves.astype(np.float64) @ query
    assert len(found.rows) == allowed.sum()
    assert found.rows.tolist() == sorted(np.flatnonzero(allowed), key=lambda row: -scores[row])


@pytest.mark.parametrize("use_faiss", BACKS)
def test_equal_vectors_tie_by_the_given_rank_however_many_there_are(use_faiss):
    halves = np.repeat(unit_rows(3), [100, 1, 100], axis=0).astype(np.float16)
    rank = np.random.default_rng(0).permutation(201)
    query = np.asarray(halves[0], np.float32)
    query /= np.linalg.norm(query)
    found = Searcher(halves, use_faiss).nearest(query, 5, tie_rank=rank)
    assert found.rows.tolist() == sorted(range(100), key=lambda row: rank[row])[:5]
    assert len(set(found.cosines.tolist())) == 1


def test_faiss_and_numpy_give_the_same_bits():
    pytest.importorskip("faiss")
    halves = unit_rows(2_000).astype(np.float16)
    for query in unit_rows(20, seed=5):
        fast, plain = (Searcher(halves, use).nearest(query, 30) for use in (True, False))
        assert fast.rows.tolist() == plain.rows.tolist()
        assert fast.cosines.tolist() == plain.cosines.tolist()


def test_similarities_are_the_same_block_by_block(monkeypatch):
    halves, queries = unit_rows(1_000).astype(np.float16), unit_rows(3, seed=2)
    whole = Searcher(halves, False).similarities(queries)
    monkeypatch.setattr(search, "RESIDENT_ROWS", 10)
    monkeypatch.setattr(search, "BLOCK_ROWS", 64)
    assert Searcher(halves, False).similarities(queries).tolist() == whole.tolist()


@pytest.mark.parametrize("queries", [1, 3, 9])
@pytest.mark.parametrize("resident", [True, False])
def test_rough_similarities_are_off_by_less_than_a_tie(monkeypatch, queries, resident):
    monkeypatch.setattr(search, "BLOCK_ROWS", 300)
    monkeypatch.setattr(search, "SCANNED_ROWS", 5_000 if resident else 0)
    searcher, asked = Searcher(unit_rows(1_000).astype(np.float16)), unit_rows(queries, seed=3)
    assert np.abs(searcher.rough(asked) - searcher.similarities(asked)).max() < search.NEAR_TIE


@pytest.mark.slow
def test_a_million_vectors_are_searched_exactly_in_twice_their_read_time(tmp_path):
    pytest.importorskip("faiss")
    n, d = 1_000_000, 384
    halves = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float16, (n, d))
    for start in range(0, n, 50_000):
        halves[start : start + 50_000] = unit_rows(50_000, d, seed=start)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    searcher, queries = Searcher(mapped), unit_rows(5, d, seed=1)
    found = [searcher.nearest(query, 10) for query in queries]
    brute = np.concatenate(
        [mapped[start : start + 50_000].astype(np.float32) @ queries.T for start in range(0, n, 50_000)]
    )
    wide = np.concatenate([unit_rows(50_000, d, seed=start) @ queries.T for start in range(0, n, 50_000)])
    for number, each in enumerate(found):
        assert each.rows.tolist() == np.argsort(-brute[:, number], kind="stable")[:10].tolist()
        tenth = np.sort(wide[:, number])[-10]  # against float32 vectors: recall 1.000 but for near ties
        assert wide[each.rows, number].min() > tenth - 1e-3
        assert set(np.flatnonzero(wide[:, number] > tenth + 1e-3)) <= set(each.rows.tolist())
    ours, read = [], []
    for query in queries:
        start = time.process_time()
        searcher.nearest(query, 10)
        ours.append(time.process_time() - start)
        start = time.process_time()
        np.asarray(mapped).reshape(-1).view(np.uint64).sum()
        read.append(time.process_time() - start)
    assert sorted(ours)[2] <= 2 * sorted(read)[2]


# Tasks of several instructions ------------------------------------------------------------------------------------


def several(tasks=600, most=4, d=D, seed=3):
    """A retriever over tasks of one to `most` instructions; every tenth is a copy of the one before."""
    rng = np.random.default_rng(seed)
    lengths = np.repeat(rng.integers(1, most + 1, tasks // 2), 2)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    vectors = unit_rows(int(offsets[-1]), d, seed).astype(np.float16)
    for task in range(1, tasks, 10):
        vectors[offsets[task] : offsets[task + 1]] = vectors[offsets[task - 1] : offsets[task]]
    index = SimpleNamespace(
        vectors=vectors, offsets=offsets, size=tasks, is_aligned=False, is_one_to_one=False,
        id_rank=rng.permutation(tasks),
    )  # fmt: skip
    return Retriever(index)


@pytest.mark.parametrize("aggregate", ["max", "mean", "mean_of_max"])
def test_the_first_tasks_are_those_of_all_scores_in_float64(aggregate, monkeypatch):
    retriever, target = several(), Target("t", ("a", "b", "c"))
    candidates = np.flatnonzero(np.random.default_rng(1).random(600) < 0.8)
    for seed in range(10):
        vectors, rules = Vectors(unit_rows(3, seed=seed)), Rules(aggregate=aggregate)
        whole = retriever.rank(target, vectors, rules, candidates)
        with monkeypatch.context() as patch:
            patch.setattr(Searcher, "similarities", lambda *_: pytest.fail("all of it in float64"))
            first = retriever.rank(target, vectors, rules, candidates, 20)
        assert first.ranking.tasks[:20].tolist() == whole.ranking.tasks[:20].tolist()
        assert first.ranking.scores[:20].tolist() == whole.ranking.scores[:20].tolist()
        assert first.spread == pytest.approx(whole.spread, abs=1e-6)
