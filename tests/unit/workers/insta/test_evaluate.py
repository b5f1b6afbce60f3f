"""insta.evaluate on libraries small enough to check by eye."""

import csv
import json

import pytest

from shared.jobs.catalog.insta import EvaluateParams
from shared.jobs.errors import Cancelled, InvalidInput
from workers.insta.jobs import evaluate

INDEX, QUERIES, RELEVANT = ("file:" + letter * 64 for letter in "bcd")


@pytest.fixture
def measure(context, our_index, tmp_path):
    def run(path=our_index, inputs=None, **params):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        ctx = context(folder, {INDEX: path, **(inputs or {})})
        result = evaluate(EvaluateParams(index=INDEX, **params), ctx)
        ctx.close()
        return result, folder

    return run


def by_method(result, strict=False):
    return {figures.method: figures for figures in result.figures if figures.strict == strict}


def test_instructions_find_the_tasks_of_their_category(measure):
    result, folder = measure(methods=["insta", "bm25", "rrf", "random", "data_sample"])
    found = by_method(result)
    assert {figures.queries for figures in found.values()} == {40}
    ndcg = {name: figures.metrics["ndcg@10"] for name, figures in found.items()}
    assert ndcg["insta"].micro > 0.8
    assert ndcg["random"].high < ndcg["insta"].low
    assert ndcg["data_sample"].micro < ndcg["insta"].micro
    assert ndcg["insta"].macro == pytest.approx(ndcg["insta"].micro)  # categories are of one size
    assert found["random"].sign_test_p < 0.001 < 1
    assert found["insta"].sign_test_p is None
    assert found["random"].better + found["random"].worse <= 40
    table = list(csv.DictReader((folder / "categories.csv").read_text().splitlines()))
    assert len(table) == 5 * 2 * 8
    assert {row["queries"] for row in table} == {"5"}
    assert len((folder / "queries.jsonl").read_text().splitlines()) == 5 * 2 * 40
    curves = json.loads((folder / "precision.plotly.json").read_text())["data"]
    assert len(curves) == 10


def test_queries_and_relations_can_come_as_files(measure, write_lines, tmp_path):
    queries = write_lines(tmp_path / "q", [{"id": "q1", "instructions": ["Sort these numbers."]},
                                           {"id": "q2", "instructions": ["Nothing is like this."]}])  # fmt: skip
    relevant = write_lines(tmp_path / "r", [{"query_id": "q1", "task_ids": ["tenfold/sort_ascending"]}])
    result, _ = measure(inputs={QUERIES: queries, RELEVANT: relevant}, queries=QUERIES, relevance=RELEVANT,
                        methods=["insta"], ks=[1, 5])  # fmt: skip
    found = by_method(result)["insta"]
    assert (found.queries, found.skipped) == (1, 1)
    assert found.metrics["precision@5"].micro == 0.2
    assert found.metrics["recall@5"].micro == 1


def test_strict_figures_leave_out_the_querys_own_data_set(make_index, task, measure, tmp_path):
    path = make_index(tmp_path / "i", [
        task("a1", "Sort the numbers.", category="c", dataset="a"),
        task("a2", "Sort the numbers.", category="c", dataset="a"),
        task("b", "Write a poem about the moon.", category="d", dataset="b"),
        task("d", "Write some verses about the moon.", category="c", dataset="d"),
    ])[1]  # fmt: skip
    result, _ = measure(path, methods=["insta"], ks=[1])
    assert by_method(result)["insta"].metrics["precision@1"].micro == pytest.approx(2 / 3)  # of a1, a2, d
    assert (
        by_method(result, strict=True)["insta"].metrics["precision@1"].micro == 0
    )  # a1 and a2 no longer find each other
    assert by_method(result)["insta"].skipped == 1  # b


def has_no_figures(figures):
    return figures.queries == 0 and all(
        (figure.micro, figure.low, figure.high, figure.macro) == (None,) * 4 for figure in figures.metrics.values()
    )


NOTHING_RELEVANT = [
    pytest.param({"relevance": "dataset"}, True, id="strict-removes-the-relevant"),
    pytest.param({"relevance": "category", "query_filters": {"allow": ["d"]}}, False, id="no-query-has-relatives"),
    pytest.param({"relevance": "category", "filters": {"exclude_same_dataset": True}}, False, id="filtered-away"),
    pytest.param({"queries": QUERIES}, False, id="queries-without-category"),
]


@pytest.mark.parametrize(("params", "strict"), NOTHING_RELEVANT)
def test_where_no_query_counts_every_metric_is_null_and_its_curve_has_gaps(
    make_index, task, measure, write_lines, tmp_path, params, strict
):
    path = make_index(tmp_path / "i", [
        task("a", "Sort the numbers.", category="c", dataset="x"),
        task("b", "Sort the words.", category="c", dataset="x"),
        task("d", "Write a poem.", category="e", dataset="y"),
    ])[1]  # fmt: skip
    queries = write_lines(tmp_path / "q", [{"id": "q", "instructions": ["Sort it."]}])
    result, folder = measure(path, {QUERIES: queries}, methods=["insta", "random"], ks=[1, 5], **params)
    for figures in result.figures:
        assert {"precision@1", "precision@5", "ndcg@10", "map"} <= set(figures.metrics)
        assert has_no_figures(figures) == (figures.strict or not strict)
        assert figures.sign_test_p is None or figures.queries
    curves = json.loads((folder / "precision.plotly.json").read_text())["data"]
    assert curves[1]["name"] == "insta strict"
    assert curves[1]["y"] == [None, None]
    assert (folder / "categories.csv").read_text().startswith("method,strict,category,queries,precision@1")


def test_filters_of_a_target_are_its_own(make_index, task, measure, tmp_path):
    path = make_index(tmp_path / "i", [
        task("a", "Sort the numbers.", category="c", dataset="x"),
        task("b", "Sort the numbers.", category="c", dataset="y"),
        task("d", "Order the numbers.", category="c", dataset="x"),
    ])[1]  # fmt: skip
    asked = {name: measure(path, methods=["insta"], ks=[1], query_filters={"allow": ["a"]}, filters={name: True})[1]
             for name in ("exclude_same_dataset", "exclude_identical_instruction")}  # fmt: skip
    relevant = {name: json.loads((folder / "queries.jsonl").read_text().splitlines()[0])["relevant"]
                for name, folder in asked.items()}  # fmt: skip
    assert relevant == {"exclude_same_dataset": 1, "exclude_identical_instruction": 1}


def test_queries_can_be_filtered(measure):
    result, _ = measure(methods=["insta"], query_filters={"categories": ["Arithmetic"]})
    assert (result.queries, result.candidates) == (5, 40)


def test_vote_ranks_the_rest_behind(measure):
    result, _ = measure(methods=["insta"], aggregate="vote", query_filters={"categories": ["Arithmetic"]})
    assert by_method(result)["insta"].metrics["map"].micro > 0.3


def test_a_finished_method_is_not_measured_again(context, our_index, tmp_path):
    params = EvaluateParams(index=INDEX, methods=["insta", "random"])
    whole = context(tmp_path / "whole", {INDEX: our_index})
    expected = evaluate(params, whole)
    whole.close()
    cut = context(tmp_path / "cut", {INDEX: our_index})
    cut._say = lambda event, data: setattr(cut, "cancelled", data.get("done") == 60)
    with pytest.raises(Cancelled):
        evaluate(params, cut)
    cut.release()
    again = context(tmp_path / "cut", {INDEX: our_index})
    assert again.restored().state["done"] == 1
    assert evaluate(params, again) == expected
    again.close()
    for name in ("queries.jsonl", "categories.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param({"query_id": "q"}, 'line 1: give {"query_id"', id="no-ids"),
        pytest.param({"query_id": "tenfold/add", "task_ids": ["zz"]}, "'zz' is not in", id="unknown-id"),
    ],
)
def test_bad_relations_are_refused(measure, write_lines, tmp_path, line, said):
    with pytest.raises(InvalidInput, match=said):
        measure(inputs={RELEVANT: write_lines(tmp_path / "r", [line])}, relevance=RELEVANT, methods=["insta"])


@pytest.mark.parametrize("samples", [pytest.param(True, id="no-task-has-one"), pytest.param(False, id="not-indexed")])
def test_examples_are_compared_only_where_there_are_some(make_index, task, measure, tmp_path, samples):
    example = {} if samples else {"example": {"input": "2 1", "output": "1 2"}}
    tasks = [task(name, f"Do {name}.", category="c", **example) for name in "ab"]
    path = make_index(tmp_path / "i", tasks, samples=samples)[1]
    with pytest.raises(InvalidInput, match=r"holds no examples, which method data_sample compares"):
        measure(path, methods=["insta", "data_sample"])


def test_relations_need_a_column(make_index, task, measure, tmp_path):
    path = make_index(tmp_path / "i", [task("a", "Sort."), task("b", "Add.")])[1]
    with pytest.raises(InvalidInput, match=r"no task of .* has a category; give relevance as a file"):
        measure(path)
