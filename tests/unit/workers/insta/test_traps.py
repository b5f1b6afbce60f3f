"""What is easily got wrong, one test each. The traps of real libraries (Pearson, unregularised heads) are in
test_align.py and test_real_libraries.py."""

import time

import numpy as np
import pytest

from shared.data.instruction_tasks import Template, read_tasks
from shared.jobs.catalog.insta import EvaluateParams, QueryParams
from shared.jobs.errors import InvalidInput
from workers.insta.jobs import evaluate, query
from workers.insta.library import refine_library
from workers.insta.pairs import NegativeRule, training_pairs
from workers.insta.refinement import refined
from workers.insta.scoring import aggregate, by_score, vote
from workers.insta.search import Searcher
from workers.runtime.threads import fix_threads

INDEX = "file:" + "b" * 64


def unit_rows(rows, d=384, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_same_data_set_and_identical_definitions_inflate_figures_so_strict_ones_are_always_given(
    make_index, task, context, tmp_path
):
    texts = {"a": "Write about the sea.", "b": "Translate it into German.", "x": "Write about the seashore."}
    tasks = [task(f"{name}{i}", text, category="d" if name == "x" else "c", dataset=name)
             for name, text in texts.items() for i in range(2)]  # fmt: skip
    ctx = context(tmp_path / "e", {INDEX: make_index(tmp_path / "i", tasks)[1]})
    result = evaluate(EvaluateParams(index=INDEX, methods=["insta"], ks=[1]), ctx)
    ctx.close()
    loose, strict = result.figures
    assert (loose.strict, strict.strict) == (False, True)
    assert loose.metrics["precision@1"].micro == 1
    assert strict.metrics["precision@1"].micro < 1
    assert strict.skipped == 2  # nothing else of x's category is left


def test_the_draw_of_negatives_ends_in_a_homogeneous_library_and_forced_ones_are_counted():
    x = np.abs(unit_rows(12, 4)) + 1
    x /= np.linalg.norm(x, axis=1, keepdims=True)  # all near each other: no cosine is below 0.3
    pairs = training_pairs([row // 2 for row in range(12)], x, np.random.default_rng(0), 0.4, NegativeRule())
    assert pairs.forced == 12
    assert int((pairs.labels == 0).sum()) == 12


def test_used_up_instructions_are_not_drawn_for_ever():
    x = np.zeros((10, 2), np.float32)
    x[:, 0] = 1
    x[9] = (0, 1)  # one far instruction: four may use it
    pairs = training_pairs(list(range(10)), x, np.random.default_rng(0), 0.4, NegativeRule())
    far = (pairs.v == 9) & (pairs.labels == 0)
    assert far.sum() == 4
    assert pairs.forced == 10 - 4 - 1  # the far one's own negative is far as well


def test_votes_are_compared_as_counts_because_their_sum_is_wrong_in_floating_point():
    assert float(10**30) + 10**3 == float(10**30)  # the last place vanishes
    similarities = np.full((2, 20), -1.0)
    for number, first in enumerate((0, 1)):  # tasks 0 and 1 are first and second in turn; 1 has the last place too
        order = [first, 1 - first, *range(2, 9), 19 if number else 1]
        for place, row in enumerate(dict.fromkeys(order)):
            similarities[number, row] = 0.9 - 0.01 * place
    offsets = np.array([0, 1, *range(2, 20), 20])
    offsets[-1] = 20
    tasks = vote(similarities, offsets, np.arange(20)).tasks
    assert tasks[:2].tolist() == [0, 1]
    rows = np.array([[0.9, 0.8, 0.1], [0.8, 0.9, 0.1]])  # task 1 also owns the third row
    assert vote(rows, np.array([0, 1, 3]), np.arange(2)).tasks.tolist() == [1, 0]


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_vote_works_with_fewer_than_ten_instructions(rows):
    found = vote(np.linspace(0.9, 0.1, rows)[None], np.arange(rows + 1), np.arange(rows))
    assert found.tasks.tolist() == list(range(rows))
    assert found.votes.shape == (rows, rows)


def test_mean_punishes_a_task_with_diverse_templates_and_max_does_not():
    similarities = np.array([[0.9, 0.1, 0.1, 0.5]])  # task 0 has the best template and two others
    offsets = np.array([0, 3, 4])
    order = {how: by_score(aggregate(similarities, offsets, how), np.arange(2), np.arange(2)).tasks.tolist()
             for how in ("max", "mean")}  # fmt: skip
    assert order == {"max": [0, 1], "mean": [1, 0]}
    assert QueryParams(index=INDEX, task_id="x").aggregate == "max"


def test_float16_storage_with_wide_sums_loses_no_recall():
    wide = unit_rows(5_000)
    searcher, queries = Searcher(wide.astype(np.float16)), unit_rows(30, seed=1)
    for query_vector in queries:
        found = set(searcher.nearest(query_vector, 10).rows.tolist())
        exact = wide @ query_vector
        tenth = np.sort(exact)[-10]
        assert all(exact[row] > tenth - 1e-3 for row in found)
        assert {int(row) for row in np.flatnonzero(exact > tenth + 1e-3)} <= found


def test_an_unnormalised_query_changes_no_order():
    searcher, direction = Searcher(unit_rows(300).astype(np.float16)), unit_rows(1, seed=2)[0]
    assert searcher.nearest(direction, 9).rows.tolist() == searcher.nearest(direction * 3, 9).rows.tolist()


def test_a_glued_task_name_is_refused_and_no_row_is_dropped(context, our_index, write_lines, task, tmp_path):
    ctx = context(tmp_path / "q", {INDEX: our_index})
    glued = 'tenfold/add","tenfold/double'
    with pytest.raises(InvalidInput, match="is not in"):
        query(QueryParams(index=INDEX, instructions=["Add."], filters={"allow": [glued]}), ctx)
    ctx.release()
    path = write_lines(tmp_path / "five.jsonl", [task(str(n), "Do it.") for n in range(5)])
    assert [each.id for each in read_tasks(path, "five")] == list("01234")  # the last two as well


def test_every_aggregate_can_be_reached():
    similarities, offsets = np.random.default_rng(0).uniform(size=(3, 30)), np.arange(0, 31, 3)
    orders = [tuple(by_score(aggregate(similarities, offsets, how), np.arange(10), np.arange(10)).tasks)
              for how in ("max", "mean", "mean_of_max")]  # fmt: skip
    orders.append(tuple(vote(similarities, offsets, np.arange(10)).tasks))
    assert len(set(orders)) == 4


def test_nothing_empty_is_embedded_and_tasks_left_with_nothing_are_named(make_index, tmp_path):
    tasks = [
        {"id": "empty", "templates": [{"jinja": "{{text}}"}, {"jinja": "||| {{label}}"}]},
        {
            "id": "kept",
            "templates": [{"jinja": "Sort {{list}}", "original_task": False}, {"jinja": "{% if a %}{% endif %}"}],
        },
    ]
    result, _ = make_index(tmp_path, tasks, refine="strip")
    assert (result.tasks, result.instructions, result.empty_instructions, result.tasks_left_out) == (1, 1, 3, 1)
    flagged = (Template("{{a}}", "jinja", True), Template("Sort", "jinja", False))
    assert refined(flagged, "strip", True) == ["Sort"]  # a task left with none keeps all of its templates
    assert refined(flagged, "names", True) == ["a"]


def test_cut_definitions_are_counted(make_index, task, tmp_path):
    result, _ = make_index(tmp_path, [task("long", "word " * 400), task("short", "word")])
    assert result.truncated == 1


def test_no_fixed_cosine_decides_and_every_score_comes_with_its_z(context, our_index, tmp_path):
    assert QueryParams(index=INDEX, task_id="x").filters.min_score is None
    ctx = context(tmp_path / "q", {INDEX: our_index})
    result = query(QueryParams(index=INDEX, instructions=["vowels"], k=5), ctx)
    ctx.close()
    assert result.results[0].z > 2  # far above the library's background
    assert all(task.z is not None for task in result.results)


def test_one_thread_indexes(make_index, task, encoder, tmp_path):
    tasks = [
        task(str(n), f"Write {n} words about the sea and the land, and about what lies between.") for n in range(64)
    ]
    with fix_threads(1):  # as the worker does
        wall, cpu = time.perf_counter(), time.process_time()
        make_index(tmp_path, tasks)
        assert time.process_time() - cpu <= 1.2 * (time.perf_counter() - wall)


def test_original_task_falls_back_to_all_templates_where_none_is_flagged(real_data):
    tasks = {task.id: task for task in read_tasks(real_data / "p3_tasks.jsonl", "p3")}
    library, _ = refine_library(tasks.values(), "names", original_only=True)
    for name in ("p3/app_reviews", "p3/quarel"):
        assert not any(template.original for template in tasks[name].templates)
        assert next(task for task in library.tasks if task.id == name).instructions
