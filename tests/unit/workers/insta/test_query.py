"""insta.query: selections with reasons, filters, baselines, many queries, refusals."""

import csv
import json

import numpy as np
import pytest

from shared.jobs.catalog.insta import MAX_RESULTS, QueryParams
from shared.jobs.errors import Cancelled, InvalidInput
from workers.insta import encoders, many
from workers.insta.index import Index, derive
from workers.insta.index_file import unpack
from workers.insta.jobs import query
from workers.insta.retrieval import _shuffled
from workers.insta.search import Searcher
from workers.insta.selection import looks_english
from workers.insta.targets import Target

INDEX, QUERIES = "file:" + "b" * 64, "file:" + "c" * 64
SORT = "Sort the list of numbers in ascending order."
ARTIFACTS = {
    "categories.plotly.json", "map.plotly.json", "results.csv", "results.json", "scores.plotly.json",
    "similarity.plotly.json", "train_config.json",
}  # fmt: skip


@pytest.fixture
def ask(context, our_index, tmp_path):
    """(result, folder) of a query against our own library, or another index."""

    def run(path=our_index, queries=None, **params):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        ctx = context(folder, {INDEX: path, **({QUERIES: queries} if queries else {})})
        given = {} if queries is None else {"queries": QUERIES}
        if not {"instructions", "task_id", "queries"} & {*params, *given}:
            given["instructions"] = [SORT]
        result = query(QueryParams(index=INDEX, **given, **params), ctx)
        ctx.close()
        return result, folder

    return run


@pytest.fixture
def small_index(make_index, task, tmp_path):
    return make_index(tmp_path / "small", [
        task("a/one", "Sort the numbers.", category="order", dataset="x", source="s",
             languages=["English"], split="train"),
        task("a/two", "Sort the numbers.", category="order", dataset="x", source="s", languages=["English", "Hindi"]),
        task("b/one", "Translate the sentence.", "Render it in German.", category="mt", dataset="y", split="test"),
        task("b/two", "Write a poem.", dataset="z", source="t"),
    ])[1]  # fmt: skip


def ids(result):
    return [task.task_id.removeprefix("tenfold/") for task in result.results]


def test_a_selection_is_ranked_and_explained(ask):
    result, folder = ask(k=5)
    assert ids(result)[:2] == ["sort_ascending", "sort_descending"]
    first = result.results[0]
    assert first.best_pair.task_instruction == "Sort this list of numbers in ascending order."
    assert first.score == first.best_pair.cosine == first.per_query_scores[0] > 0.9
    assert {"sort", "numbers", "ascending", "order", "list"} == set(first.shared_terms)
    assert first.z > 2
    assert (first.category, first.dataset, first.duplicate_of) == ("List Ordering", "sort_ascending", None)
    assert (result.selected, result.k, result.candidates, result.queries) == (5, 5, 40, 1)
    assert sum(share.share for share in result.categories) == pytest.approx(1)
    assert result.categories[0].category == "List Ordering"
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == ARTIFACTS


def test_artifacts_say_the_same_as_the_result(ask):
    result, folder = ask(k=7)
    rows = json.loads((folder / "results.json").read_text())
    assert [row["task_id"] for row in rows] == [task.task_id for task in result.results]
    table = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert [float(row["score"]) for row in table] == [task.score for task in result.results]
    config = json.loads((folder / "train_config.json").read_text())
    assert config["dataset_lists"] == [task.task_id for task in result.results]
    assert (config["epochs"], config["learning_rate"], config["batch_size"]) == (3, 1e-4, 256)
    curve = json.loads((folder / "scores.plotly.json").read_text())
    assert curve["data"][0]["y"][:7] == [task.score for task in result.results]
    assert curve["layout"]["shapes"][0]["x0"] == 7.5
    heat = json.loads((folder / "similarity.plotly.json").read_text())["data"][0]
    assert heat["y"] == [task.task_id for task in result.results]
    drawn = {trace["name"]: trace for trace in json.loads((folder / "map.plotly.json").read_text())["data"]}
    assert len(drawn["selected"]["x"]) == 7
    assert drawn["target"]["marker"]["symbol"] == "star"


def test_the_star_of_a_task_lies_where_the_map_has_it(ask, our_index, tmp_path):
    _, folder = ask(task_id="tenfold/sort_words", k=3)
    drawn = {trace["name"]: trace for trace in json.loads((folder / "map.plotly.json").read_text())["data"]}
    star = drawn["tenfold/sort_words"]
    found = Index(unpack(our_index, "x" * 64, tmp_path, "index", derive), "index")
    assert (star["x"][0], star["y"][0]) == pytest.approx(
        found.position()[0][found.find("tenfold/sort_words")].tolist(), abs=2e-4)  # fmt: skip


def test_a_heat_map_says_that_it_shows_the_first_tasks_only(make_index, task, ask, tmp_path):
    path = make_index(tmp_path / "i", [task(f"t{n:02}", f"Write {n} words.") for n in range(45)])[1]
    _, folder = ask(path, k=45)
    heat = json.loads((folder / "similarity.plotly.json").read_text())
    assert len(heat["data"][0]["y"]) == 40
    assert "first 40 of 45" in heat["layout"]["title"]["text"]


def test_margin_and_background_are_those_of_all_scores(ask):
    whole, _ = ask(k=40)
    scores = [task.score for task in whole.results]
    result, _ = ask(k=5)
    assert result.margin == pytest.approx(scores[4] - scores[5])
    assert whole.margin is None
    assert result.background.mean == pytest.approx(sum(scores) / 40)
    assert result.results[2].z == pytest.approx((scores[2] - result.background.mean) / result.background.sd, abs=1e-5)


def test_a_task_of_the_library_is_no_candidate_for_itself(ask):
    result, _ = ask(task_id="tenfold/sort_words", k=39)
    assert "sort_words" not in ids(result)
    assert result.candidates == 39
    assert all(len(task.per_query_scores) == 3 for task in result.results)


@pytest.mark.parametrize("aggregate", ["max", "mean", "mean_of_max", "vote"])
def test_every_aggregate_selects_the_sorting_tasks(ask, aggregate):
    result, _ = ask(task_id="tenfold/sort_ascending", aggregate=aggregate, k=5)
    assert "sort_descending" in ids(result)[:2]
    assert (result.results[0].votes is not None) == (aggregate == "vote")
    assert (result.background is None) == (aggregate == "vote")


@pytest.mark.parametrize(
    ("method", "has_scores"),
    [("insta", True), ("bm25", True), ("rrf", True), ("random", False), ("all", False), ("data_sample", True)],
)
def test_every_method_answers(ask, method, has_scores):
    result, _ = ask(task_id="tenfold/sort_ascending", method=method, k=6)
    assert (result.results[0].score is not None) == has_scores
    assert (result.margin is not None) == has_scores
    assert result.selected == (39 if method == "all" else 6)
    if method in ("insta", "bm25", "rrf"):
        assert {"sort_descending", "sort_by_last_digit"} & set(ids(result)[:3])


def test_random_is_seeded(ask):
    orders = [ids(ask(method="random", k=40, seed=seed)[0]) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_random_orders_differ_between_targets_whose_ids_end_alike():
    orders = {tuple(_shuffled(np.arange(50), Target(f"{letter}_generation", ()), 1).tasks) for letter in "abcdefgh"}
    assert len(orders) == 8


@pytest.fixture
def few_samples(make_index, task, tmp_path):
    """Three tasks, one of them without example, and one of another category that has one."""
    example = {"input": "2 1", "output": "1 2"}
    return make_index(tmp_path / "few", [
        task("a", "Sort.", category="c", example=example), task("b", "Order.", category="c", example=example),
        task("c", "Write.", category="d"), task("e", "Add.", category="c", example=example),
    ], samples=True)[1]  # fmt: skip


def test_tasks_without_example_are_no_candidates_where_examples_are_compared(ask, few_samples):
    result, _ = ask(few_samples, task_id="a", method="data_sample", k=2)
    assert (result.candidates, ids(result), result.warnings) == (2, ["b", "e"], [])


@pytest.mark.parametrize(
    ("params", "said"),
    [
        pytest.param({"k": 3}, "k 3 is above the 2 tasks with an example that are left", id="k"),
        pytest.param({"filters": {"categories": ["d"]}}, "none of the 1 tasks left by the filters has an example",
                     id="none-left"),
        pytest.param({"task_id": "c"}, "task_id: c has no example", id="target"),
    ],
)  # fmt: skip
def test_missing_examples_are_refused(ask, few_samples, params, said):
    with pytest.raises(InvalidInput, match=said):
        ask(few_samples, **{"task_id": "a", "method": "data_sample", **params})


def test_an_example_of_the_target_can_be_given(ask):
    result, _ = ask(method="data_sample", example={"input": "river stone", "output": "enots revir"}, k=3)
    assert result.selected == 3


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        pytest.param({"sources": ["s"]}, {"a/one", "a/two"}, id="source"),
        pytest.param({"datasets": ["y", "z"]}, {"b/one", "b/two"}, id="dataset"),
        pytest.param({"categories": ["mt"]}, {"b/one"}, id="category"),
        pytest.param({"languages": ["English"]}, {"a/one"}, id="all-languages-among-these"),
        pytest.param({"languages": ["English", "Hindi"]}, {"a/one", "a/two"}, id="two-languages"),
        pytest.param({"splits": ["train"]}, {"a/one"}, id="split"),
        pytest.param({"allow": ["a/one", "b/two"]}, {"a/one", "b/two"}, id="allow"),
        pytest.param({"deny": ["a/one"]}, {"a/two", "b/one", "b/two"}, id="deny"),
        pytest.param({"exclude_same_dataset": True}, {"b/one", "b/two"}, id="same-dataset"),
        pytest.param({"exclude_identical_instruction": True}, {"b/one", "b/two"}, id="identical-instruction"),
        pytest.param({"min_score": 0.9}, {"a/one", "a/two"}, id="min-score"),
        pytest.param({"sources": ["s"], "deny": ["a/two"]}, {"a/one"}, id="together"),
    ],
)
def test_filters_decide_who_is_a_candidate(ask, small_index, filters, left):
    result, _ = ask(small_index, instructions=["Sort the numbers."], dataset="x", filters=filters)
    assert set(ids(result)) == left


def test_filters_come_before_ranking(ask):
    result, _ = ask(k=3, filters={"categories": ["Letter Counting"]})
    assert (len(ids(result)), result.candidates) == (3, 5)
    assert {task.category for task in result.results} == {"Letter Counting"}


def test_doubles_and_the_targets_own_data_set_are_marked(ask, small_index):
    result, _ = ask(small_index, instructions=["Sort the numbers."], dataset="x", k=3)
    assert [(task.task_id, task.duplicate_of, task.same_dataset) for task in result.results[:2]] == [
        ("a/one", None, True), ("a/two", "a/one", True)]  # fmt: skip
    assert any("top hits are identical" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        pytest.param({"instructions": ["word " * 400]}, "longer than 256 tokens", id="truncated"),
        pytest.param({"instructions": ["Сортируйте список чисел по возрастанию."]}, "does not look English",
                     id="cyrillic"),
        pytest.param({"filters": {"min_score": 0.999}, "instructions": ["Bake a cake."]}, "nothing above min_score",
                     id="minimum"),
        pytest.param({"filters": {"min_score": 0.6}, "k": 9}, "tasks score min_score 0.6 or more; k is 9",
                     id="fewer-than-k"),
        pytest.param({"aggregate": "vote", "vote_depth": 2, "k": 9}, "tasks are ranked by vote", id="few-votes"),
        pytest.param({"filters": {"exclude_same_dataset": True}}, "data set is not known; give dataset",
                     id="unknown-dataset"),
    ],
)  # fmt: skip
def test_warnings(ask, params, said):
    result, _ = ask(**params)
    assert any(said in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("text", "english"),
    [("Sort.", True), ("数字を並べ替える", False), (SORT, True), ("", True),
     ("Ordnen Sie bitte alle Zahlen aus dieser Liste nach ihrer Größe", False),
     ("Ordnen Sie bitte so alle Zahlen an, die in der Liste stehen, und was fehlt, ergänzen Sie", False),
     ("No hay nada que hacer cuando la casa no está limpia y los niños no duermen", False),
     ("Metti in ordine crescente tutti i numeri in questa lista e non in altre", False),
     ("Coloque no final todos os números que não estão na lista e do resto faça uma soma", False),
     ("Sorteer de getallen in de lijst van klein naar groot, of is dat niet wat we hebben", False),
     ("Given a scientific question, generate a correct answer to it.", True),
     ("Given an open-ended topic (movie, persons name, event) generate a simple trivia-type question.", True)],
)  # fmt: skip
def test_what_looks_english(text, english):
    assert looks_english(text) == english


@pytest.mark.parametrize(
    ("params", "said"),
    [
        pytest.param({"task_id": "tenfold/sort_word"}, r"'tenfold/sort_word' is not in .*tenfold/sort_words",
                     id="unknown-task"),
        pytest.param({"k": 41}, r"k 41 is above the 40 tasks left", id="k-above-library"),
        pytest.param({"k": 6, "filters": {"categories": ["Arithmetic"]}}, r"k 6 is above the 5 tasks left",
                     id="k-above-filter"),
        pytest.param({"filters": {"categories": ["Cooking"]}}, r"leave no task .*of this library: Arithmetic",
                     id="none-left"),
        pytest.param({"filters": {"allow": ["x"]}}, r"filters.allow 'x' is not in", id="allow-unknown"),
        pytest.param({"method": "data_sample", "example": {"input": "a", "output": "b"}, "small": True},
                     r"index with samples: true", id="no-samples"),
    ],
)  # fmt: skip
def test_bad_queries_are_refused_before_the_encoder_loads(ask, small_index, monkeypatch, params, said):
    monkeypatch.setattr(encoders, "load", lambda *_: pytest.fail("the encoder was loaded"))
    params = dict(params)
    path = [small_index] if params.pop("small", False) else []
    with pytest.raises(InvalidInput, match=said):
        ask(*path, **params)


def test_a_long_selection_fits_the_result(make_index, task, ask, tmp_path):
    text = "Read the passage and say at length what it tells of number {0} and of the people in it. " * 4
    path = make_index(tmp_path / "long", [task(f"t{n:03}", text.format(n)) for n in range(150)])[1]
    result, folder = ask(path, instructions=["Read the passage. " * 30] * 1, k=150)
    assert 20 < len(result.results) <= MAX_RESULTS
    assert len(result.model_dump_json().encode()) <= 64 * 1024
    assert len(json.loads((folder / "results.json").read_text())) == 150


# Many queries ---------------------------------------------------------------------------------------------------------

TARGETS = [
    {"id": "q1", "instructions": [SORT]},
    {"id": "q2", "instructions": ["How many vowels?", "Count the vowels of the word."]},
    {"id": "tenfold/add", "instructions": ["Add the two numbers."]},
]


def test_many_queries_are_answered_line_by_line(ask, write_lines, tmp_path):
    result, folder = ask(queries=write_lines(tmp_path / "q.jsonl", TARGETS), k=4)
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [(line["query_id"], line["rank"]) for line in lines] == [
        (target["id"], rank) for target in TARGETS for rank in (1, 2, 3, 4)]  # fmt: skip
    assert (result.queries, result.selected, result.k, len(result.results)) == (3, 12, 4, 12)
    assert lines[4]["task_id"] == "tenfold/count_vowels"
    assert "tenfold/add" not in [line["task_id"] for line in lines[8:]]


def test_a_query_among_many_is_answered_as_alone(ask, write_lines, tmp_path):
    _, folder = ask(queries=write_lines(tmp_path / "q.jsonl", TARGETS), k=4)
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    alone, _ = ask(instructions=TARGETS[1]["instructions"], k=4)
    assert [line["task_id"] for line in lines[4:8]] == [task.task_id for task in alone.results]
    assert [line["score"] for line in lines[4:8]] == pytest.approx([task.score for task in alone.results], abs=2e-3)


def test_many_queries_resume_to_the_same_bytes(context, our_index, write_lines, tmp_path, monkeypatch):
    monkeypatch.setattr(many, "CHUNK", 2)
    path = write_lines(tmp_path / "q.jsonl", [{"id": f"q{n}", "instructions": [f"{SORT} {n}"]} for n in range(7)])
    params = QueryParams(index=INDEX, queries=QUERIES, k=3)
    whole = context(tmp_path / "whole", {INDEX: our_index, QUERIES: path})
    expected = query(params, whole)
    whole.close()
    cut = context(tmp_path / "cut", {INDEX: our_index, QUERIES: path})
    cut._say = lambda event, data: setattr(cut, "cancelled", data.get("done") == 5)
    with pytest.raises(Cancelled):
        query(params, cut)
    cut.release()
    again = context(tmp_path / "cut", {INDEX: our_index, QUERIES: path})
    assert again.restored().state["done"] == 4
    assert query(params, again) == expected
    again.close()
    assert (tmp_path / "cut" / "results.jsonl").read_bytes() == (tmp_path / "whole" / "results.jsonl").read_bytes()


@pytest.mark.parametrize("method", ["insta", "rrf"])
def test_many_queries_are_compared_in_one_product(ask, write_lines, tmp_path, monkeypatch, method):
    path = write_lines(tmp_path / "q.jsonl", TARGETS)
    asked, similarities = [], Searcher.similarities
    monkeypatch.setattr(
        Searcher, "similarities", lambda self, queries: asked.append(len(queries)) or similarities(self, queries)
    )
    _, together = ask(queries=path, k=4, method=method)
    assert asked == [4]  # three targets, one of them with two instructions
    monkeypatch.setattr(many, "CELLS", 1)  # no room for two
    _, alone = ask(queries=path, k=4, method=method)
    assert asked == [4, 1, 2, 1]
    assert (together / "results.jsonl").read_bytes() == (alone / "results.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("last", "params", "said"),
    [
        pytest.param({"dataset": "x"}, {"exclude_same_dataset": True, "datasets": ["x"]}, "leave no task .* for last",
                     id="none-left"),
        pytest.param({"id": "a/one"}, {"allow": ["a/one", "a/two"]}, "k 2 is above the 1 tasks left", id="k"),
    ],
)  # fmt: skip
def test_what_only_the_last_query_lacks_is_refused_before_the_first_is_answered(
    ask, small_index, write_lines, tmp_path, last, params, said
):
    first = {"id": "first", "instructions": ["Sort the numbers."]}
    path = write_lines(tmp_path / "q.jsonl", [first, {**first, "id": "last", **last}])
    with pytest.raises(InvalidInput, match=said):
        ask(small_index, queries=path, k=2, filters=params)
    assert not list(tmp_path.glob("*/results.jsonl"))


def test_every_query_needs_an_example_where_examples_are_compared(ask, write_lines, tmp_path):
    example = {"input": "river stone", "output": "enots revir"}
    path = write_lines(tmp_path / "q.jsonl", [{**TARGETS[0], "example": example}, TARGETS[1]])
    with pytest.raises(InvalidInput, match="line 2: q2 has no example"):
        ask(queries=path, method="data_sample")


@pytest.mark.parametrize(
    ("instructions", "said"),
    [
        pytest.param(["some of the words " * 100], "q1: instruction 1 is longer than 256 tokens", id="truncated"),
        pytest.param(["数字を並べ替える"], "q1: instruction 1 does not look English", id="foreign"),
    ],
)
def test_many_queries_are_warned_of_like_one(ask, write_lines, tmp_path, instructions, said):
    path = write_lines(tmp_path / "q.jsonl", [{"id": "q1", "instructions": instructions}, *TARGETS[1:]])
    result, _ = ask(queries=path, k=2)
    assert len(result.warnings) == 1
    assert said in result.warnings[0]


def test_a_target_has_fifty_instructions_at_most(ask, write_lines, tmp_path):
    many_texts = {"id": "q9", "instructions": [f"Sort {n} numbers." for n in range(51)]}
    path = write_lines(tmp_path / "q.jsonl", [TARGETS[0], many_texts])
    with pytest.raises(InvalidInput, match="line 2: q9 has 51 instructions; a target has at most 50"):
        ask(queries=path)


def test_a_bad_query_file_leaves_nothing_and_loads_nothing(ask, write_lines, tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "load", lambda *_: pytest.fail("the encoder was loaded"))
    path = write_lines(tmp_path / "q.jsonl", [*TARGETS, {"id": "q4", "instructions": [""]}])
    with pytest.raises(InvalidInput, match="line 4: instruction 1 of 1 is empty"):
        ask(queries=path)
