"""Approximate search: graphs are built in shards, resume to the same bits, and lead to nearly all of the nearest."""

import dataclasses
import tarfile

import numpy as np
import pytest
from pydantic import ValidationError

from shared.jobs.catalog.insta import AlignParams, IndexParams, QueryParams
from shared.jobs.errors import Cancelled, InvalidInput
from tests.synthetic_insta import synthetic_index
from workers.insta import faiss_codes, graph
from workers.insta.graph import Graph, built, shards
from workers.insta.index import Index
from workers.insta.jobs import align, index, query
from workers.insta.retrieval import Retriever, Rules, Target, Vectors

pytest.importorskip("faiss")
LIBRARY, INDEX = ("file:" + letter * 64 for letter in "ab")
D, SHARD = 24, 300


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(graph, "SHARD_ROWS", SHARD)
    monkeypatch.setattr(graph, "LEAST_ROWS", 90)
    monkeypatch.setattr(graph, "ADDED_ROWS", 50)


def kinds(rows, seed=0):
    """Unit vectors around thirty centres, as instructions lie around kinds of task."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((30, D))
    x = centres[rng.integers(0, 30, rows)] + 0.5 * rng.standard_normal((rows, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def written(path, vectors):
    packed = [built(vectors[start:end], lambda done: None) for start, end in shards(len(vectors))]
    path.write_bytes(b"".join(packed))
    return Graph(path, [len(each) for each in packed], vectors)


def test_graphs_lead_to_nearly_all_of_the_nearest_rows(tmp_path):
    vectors = kinds(1_000).astype(np.float16)
    graphs = written(tmp_path / "graph.bin", vectors)
    hits = []
    for query_vector in kinds(50, seed=1):
        exact = set(np.argsort(-(vectors.astype(np.float32) @ query_vector), kind="stable")[:10].tolist())
        hits.append(len(exact & set(graphs.nearest(query_vector, 10).tolist())) / 10)
    assert np.mean(hits) > 0.97


def test_a_shards_links_are_the_same_bits_every_time_and_hold_no_vectors():
    vectors = kinds(SHARD).astype(np.float16)
    first, again = (built(vectors, lambda done: None) for _ in "ab")
    assert first == again
    assert len(first) < 250 * SHARD  # links alone, whatever the dimensions


@pytest.mark.parametrize("several", [1, 3])
@pytest.mark.parametrize("aggregate", ["max", "mean_of_max"])
def test_tasks_that_graphs_lead_to_are_scored_as_exactly_as_by_the_scan(tmp_path, several, aggregate):
    folder = synthetic_index(tmp_path, 900 // several, D, several)
    vectors = kinds(900).astype(np.float16)
    np.save(folder / "vectors.npy", vectors)
    retriever = Retriever(Index(folder, "synthetic"))
    retriever.__dict__["graph"] = written(tmp_path / "graph.bin", vectors)
    everything = np.arange(900 // several)
    target, asked = Target("t", ("a", "b")), Vectors(kinds(2, seed=3))
    rules = Rules(aggregate=aggregate)
    exact = retriever.rank(target, asked, rules, everything, 20).ranking
    near = retriever.rank(target, asked, dataclasses.replace(rules, search="graph"), everything, 20).ranking
    score_of = dict(zip(exact.tasks.tolist(), exact.scores.tolist(), strict=True))
    shared = [task for task in near.tasks[:20].tolist() if task in score_of]
    assert len(set(near.tasks[:20].tolist()) & set(exact.tasks[:20].tolist())) >= 16
    assert [score_of[task] for task in shared] == [near.scores[near.tasks.tolist().index(task)] for task in shared]


@pytest.fixture(scope="module")
def lines(write_lines, task, tmp_path_factory):
    verbs, things = ("Sort", "Count", "Translate", "Describe"), ("words", "numbers", "rivers", "stories", "letters")
    tasks = [task(f"t{n}", f"{verbs[n % 4]} {n} {things[n % 5]} of a list.") for n in range(100)]
    return write_lines(tmp_path_factory.mktemp("graph") / "library.jsonl", tasks)


def indexed(context, lines, folder, **params):
    ctx = context(folder, {LIBRARY: lines})
    result = index(IndexParams(library=LIBRARY, **params), ctx)
    ctx.close()
    return result, folder / "index.tar"


@pytest.fixture
def with_graph(context, lines, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "SHARD_ROWS", 40)
    return indexed(context, lines, tmp_path / "i", graph=True)[1]


def ask(context, path, folder, **params):
    ctx = context(folder, {INDEX: path})
    result = query(QueryParams(index=INDEX, **{"instructions": ["Sort 3 numbers of a list."], "k": 5, **params}), ctx)
    ctx.close()
    return result


def test_a_query_walks_the_graphs_and_says_so(context, with_graph, tmp_path):
    exact = ask(context, with_graph, tmp_path / "a")
    near = ask(context, with_graph, tmp_path / "b", search="graph")
    assert [task.task_id for task in near.results] == [task.task_id for task in exact.results]
    assert [task.z for task in near.results] == [task.z for task in exact.results]
    assert "search graph is approximate" in near.warnings[-1]
    own = ask(context, with_graph, tmp_path / "c", search="graph", task_id="t7", instructions=None)
    assert "t7" not in {task.task_id for task in own.results}


def test_many_queries_walk_the_graphs_too(context, with_graph, write_lines, tmp_path):
    file = write_lines(tmp_path / "q.jsonl", [{"id": "q", "instructions": ["Sort 3 numbers of a list."]}])
    queries = "file:" + "c" * 64
    found = []
    for search in ("exact", "graph"):
        ctx = context(tmp_path / search, {INDEX: with_graph, queries: file})
        result = query(QueryParams(index=INDEX, queries=queries, k=5, search=search), ctx)
        ctx.close()
        found.append([task.task_id for task in result.results])
    assert found[0] == found[1]


@pytest.mark.parametrize(("after", "linked"), [(60, None), (150, 1), (190, 2)])
def test_stopped_while_linking_and_resumed_the_index_is_the_same(context, lines, tmp_path, monkeypatch, after, linked):
    monkeypatch.setattr(graph, "ADDED_ROWS", 10)
    monkeypatch.setattr(graph, "SHARD_ROWS", 40)
    whole = indexed(context, lines, tmp_path / "w", graph=True)[1]
    ctx = context(tmp_path / "r", {LIBRARY: lines})
    ctx._say = lambda event, data: setattr(ctx, "cancelled", ctx.cancelled or data.get("done", 0) >= after)
    with pytest.raises(Cancelled):
        index(IndexParams(library=LIBRARY, graph=True), ctx)
    saved = ctx.restored()
    assert (len(saved.state["linked"]) if saved else None) == linked
    ctx.release()
    again = indexed(context, lines, tmp_path / "r", graph=True)[1]
    assert again.read_bytes() == whole.read_bytes()


def test_a_head_takes_the_links_between_vectors_without_it_away(context, write_lines, task, tmp_path):
    tasks = [task(f"t{n}", f"Sort {n} words.", category="abcd"[n % 4]) for n in range(100)]
    path = indexed(context, write_lines(tmp_path / "library.jsonl", tasks), tmp_path / "i", graph=True)[1]
    ctx = context(tmp_path / "a", {INDEX: path})
    align(AlignParams(index=INDEX, steps=1, refit=False), ctx)
    ctx.close()
    with tarfile.open(tmp_path / "a" / "index.tar") as tar:
        assert {"head.npy", "graph.bin"} & set(tar.getnames()) == {"head.npy"}
    with pytest.raises(InvalidInput, match="was made without graph"):
        ask(context, tmp_path / "a" / "index.tar", tmp_path / "q", search="graph")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        pytest.param({"method": "bm25"}, "search graph is for method insta", id="method"),
        pytest.param({"aggregate": "vote"}, "aggregate max or mean_of_max", id="aggregate"),
        pytest.param({"filters": {"deny": ["a"]}}, "too little behind filters", id="filters"),
    ],
)
def test_what_graphs_cannot_answer_is_refused_at_submit(params, said):
    with pytest.raises(ValidationError, match=said):
        QueryParams(index=INDEX, instructions=["Sort."], search="graph", **params)


def test_an_index_without_graphs_is_named(context, lines, tmp_path):
    path = indexed(context, lines, tmp_path / "i")[1]
    with tarfile.open(path) as tar:
        assert "graph.bin" not in tar.getnames()
    with pytest.raises(InvalidInput, match="was made without graph; use search exact"):
        ask(context, path, tmp_path / "q", search="graph")


def test_a_library_that_needs_no_graph_is_refused_before_it_is_encoded(context, lines, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "LEAST_ROWS", 1_000_000)
    monkeypatch.setattr("workers.insta.indexing.open_encoder", None)
    with pytest.raises(InvalidInput, match=r"graph is for 1,000,000 instructions or more; of the 100 "):
        indexed(context, lines, tmp_path / "i", graph=True)


def test_without_faiss_the_package_is_named(context, lines, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "has_faiss", lambda: False)
    assert faiss_codes.has_faiss()
    with pytest.raises(InvalidInput, match="needs the package faiss-cpu"):
        indexed(context, lines, tmp_path / "i", graph=True)
