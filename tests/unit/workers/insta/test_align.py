"""insta.align: both recipes, head and full, always validated on what was not trained on."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from shared.jobs.catalog.insta import AlignParams, EvaluateParams, QueryParams
from shared.jobs.context import digest_of
from shared.jobs.errors import Cancelled, InvalidInput
from shared.jobs.references import Ref
from workers.insta import alignment
from workers.insta.alignment import Alignment
from workers.insta.index import Index, derive, open_index
from workers.insta.index_file import unpack
from workers.insta.jobs import align, evaluate, query

INDEX = "file:" + "b" * 64


@pytest.fixture
def aligned(context, our_index, tmp_path):
    """(result, folder, events) of an alignment of our own library."""

    def run(path=our_index, **params):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        events = []
        ctx = context(folder, {INDEX: path}, lambda event, data: events.append((event, data)))
        result = align(AlignParams(index=INDEX, **params), ctx)
        ctx.close()
        return result, folder, events

    return run


def opened(path, folder):
    return Index(unpack(path, digest_of(path)[0], folder, "index", derive), "index")


def test_a_head_is_trained_on_cached_vectors_and_validated_on_unseen_categories(aligned, our_index, tmp_path):
    result, folder, events = aligned(steps=60)
    assert (result.recipe, result.train, result.steps) == ("category", "head", 60)
    assert result.loss_last < result.loss_first
    assert len(result.unseen_categories) == 1
    assert result.unseen.before.queries == 5
    assert result.heldout.before.queries == 3  # a tenth of 35
    assert result.unseen.after_strict.ndcg is not None
    found, before = opened(folder / "index.tar", tmp_path / "u1"), opened(our_index, tmp_path / "u0")
    assert found.is_aligned
    assert not before.is_aligned
    assert found.manifest["alignment"]["of"] == before.version != found.version == result.index_version
    assert np.array_equal(found.vectors, before.vectors)  # nothing is encoded again
    moved = before.vectors.astype(np.float32) @ found.head
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    assert found.aligned.astype(np.float32) == pytest.approx(moved, abs=1e-3)
    done = [data["done"] for event, data in events if event == "progress"]
    assert done == list(range(1, 121))  # validated, then once more with all tasks
    curves = json.loads((folder / "alignment.plotly.json").read_text())["data"]
    assert [curve["name"] for curve in curves] == ["loss", "nDCG@10, held-out tasks", "nDCG@10, unseen categories"]


def test_an_aligned_index_answers_queries(aligned, context, tmp_path):
    _, folder, _ = aligned(steps=30)
    scores = {}
    for use_head in (True, False):
        ctx = context(tmp_path / f"q{use_head}", {INDEX: folder / "index.tar"})
        result = query(QueryParams(index=INDEX, instructions=["Sort numbers."], k=3, use_head=use_head), ctx)
        ctx.close()
        assert "sort" in result.results[0].task_id
        assert result.results[0].score == result.results[0].best_pair.cosine
        scores[use_head] = result.results[0].score
    assert scores[True] != scores[False]


def test_the_map_of_an_aligned_index_has_target_and_tasks_in_one_space(aligned, context, tmp_path):
    _, folder, _ = aligned(steps=40, penalty=0, learning_rate=0.01)
    ctx = context(tmp_path / "q", {INDEX: folder / "index.tar"})
    query(QueryParams(index=INDEX, task_id="tenfold/sort_words", k=3), ctx)
    ctx.close()
    drawn = {trace["name"]: trace for trace in json.loads((tmp_path / "q" / "map.plotly.json").read_text())["data"]}
    star, found = drawn["tenfold/sort_words"], opened(folder / "index.tar", tmp_path / "u")
    place = found.position()[0][found.find("tenfold/sort_words")].tolist()
    assert (star["x"][0], star["y"][0]) == pytest.approx(place, abs=2e-4)


def test_no_step_changes_no_ranking(aligned, our_index, context, tmp_path):
    result, folder, _ = aligned(steps=0)
    assert (result.loss_first, result.loss_last) == (None, None)
    assert result.unseen.before == result.unseen.after
    orders = []
    for number, path in enumerate((our_index, folder / "index.tar")):
        ctx = context(tmp_path / f"q{number}", {INDEX: path})
        result = query(QueryParams(index=INDEX, task_id="tenfold/sort_words", k=39), ctx)
        orders.append([(task.task_id, round(task.score, 3)) for task in result.results])
        ctx.close()
    assert orders[0] == orders[1]


def test_the_official_pairs_are_validated_by_retrieval_not_by_pearson(aligned):
    result, _, events = aligned(recipe="pairs", epochs=3, refit=False, heldout_tasks=0.2)
    assert result.recipe == "pairs"
    assert -1 <= result.dev_pearson <= 1
    points = [data["value"] for event, data in events if event == "metric" and data["name"] == "ndcg_heldout"]
    assert len(points) == 3
    assert result.chosen_epoch == 1 + int(np.argmax(points))
    assert result.heldout.after.ndcg == pytest.approx(max(points))


def test_the_delivered_head_has_learned_for_the_chosen_epochs(our_index, context, tmp_path):
    params = AlignParams(index=INDEX, recipe="pairs", epochs=6, heldout_tasks=0.2)
    events = []
    ctx = context(tmp_path / "out", {INDEX: our_index}, lambda event, data: events.append((event, data)))
    alignment = Alignment(params, open_index(params.index, ctx), ctx)
    delivered = alignment.run()
    chosen = alignment.chosen_epoch
    assert 1 <= chosen < 6  # else this shows nothing
    recipe, expected = alignment.recipe(np.arange(alignment.index.size)), alignment.model()
    optimiser = alignment._optimiser(expected)
    for step in range(chosen * recipe.per_epoch):
        alignment._step(expected, recipe, optimiser, step)
    assert np.array_equal(delivered.matrix, expected.matrix)
    steps = [data for event, data in events if event == "progress"]
    assert steps[-1]["done"] == steps[-1]["total"] == alignment.validated_recipe.steps + chosen * recipe.per_epoch
    assert all(data["done"] <= data["total"] for data in steps)
    assert alignment.validated_recipe.examples < recipe.examples  # a result tells of the validated training
    ctx.close()


def test_without_held_out_tasks_the_last_epoch_is_delivered(aligned):
    result, _, _ = aligned(recipe="pairs", epochs=2, heldout_tasks=0)
    assert (result.chosen_epoch, result.heldout.before.queries) == (2, 0)


@pytest.fixture
def templates_only(make_index, task, tmp_path):
    """What the official recipe is for: one task per data set, several instructions each, and no categories."""
    verbs = ("Sort", "Translate", "Count", "Summarise", "Rate", "Invent", "Answer", "Spell")
    ways = ("{} it.", "Please {} the text.", "Read this and {} what it says.", "How would you {} the following?")
    tasks = [task(f"p/{verb}", *(way.format(verb.lower()) for way in ways)) for verb in verbs]
    return make_index(tmp_path / "templates", tasks)[1]


def test_the_official_pairs_need_neither_categories_nor_data_sets(aligned, templates_only):
    result, _, _ = aligned(templates_only, epochs=2, heldout_tasks=0.3)
    assert (result.recipe, result.chosen_epoch in (1, 2)) == ("pairs", True)
    assert len(result.unseen_categories) == 1
    assert result.unseen.before.queries == 4  # the instructions of one data set, each looking for the other three
    assert result.heldout.before.queries == 2 * 4
    assert result.examples == 5 * (2 + 4)  # floor(.4·6) positives and 4 negatives of each data set trained on
    assert result.unseen.before_strict.queries == 0
    assert any("without categories" in warning for warning in result.warnings)


def test_data_sets_are_held_out_whole(context, make_index, task, tmp_path):
    tasks = [task(f"{d}{n}", f"Do {d} in way {n}.", f"Do {d}, way {n}, again.", dataset=d) for d in "abcdefgh"
             for n in range(2)]  # fmt: skip
    path = make_index(tmp_path / "i", tasks)[1]
    ctx = context(tmp_path / "out", {INDEX: path})
    alignment = Alignment(AlignParams(index=INDEX, heldout_tasks=0.3), open_index(Ref(INDEX), ctx), ctx)
    split, datasets = alignment.split, alignment.relations.datasets
    parts = [set(datasets[part].tolist()) for part in (split.training, split.heldout, split.unseen)]
    assert [len(part) for part in parts] == [5, 2, 1]
    assert len(set.union(*parts)) == 8
    ctx.release()


def test_unseen_categories_can_be_named(aligned):
    result, _, _ = aligned(steps=1, unseen_categories=["Arithmetic", "Letter Counting"])
    assert result.unseen_categories == ["Arithmetic", "Letter Counting"]
    assert result.unseen.before.queries == 10


def test_a_loss_on_unseen_categories_is_said(aligned):
    result, _, _ = aligned(steps=150, penalty=0, learning_rate=0.03)
    assert result.unseen.after.ndcg < result.unseen.before.ndcg
    assert any("unseen categories lose" in warning for warning in result.warnings)


def test_all_of_the_encoder_can_be_trained(aligned, context, tmp_path):
    result, folder, _ = aligned(train="full", steps=2, batch=2)
    assert (result.train, result.steps) == ("full", 2)
    assert (folder / "encoder.tar").exists()
    found = opened(folder / "index.tar", tmp_path / "u")
    assert found.samples is not None  # examples stay, by the new encoder
    assert np.linalg.norm(found.samples.astype(np.float32), axis=1) == pytest.approx(1, abs=2e-3)
    ctx = context(tmp_path / "e", {INDEX: folder / "index.tar"})
    with pytest.raises(InvalidInput, match="insta_unaligned is insta without its head"):
        evaluate(EvaluateParams(index=INDEX, methods=["insta_unaligned"]), ctx)
    ctx.release()
    ctx = context(tmp_path / "q", {INDEX: folder / "index.tar"})
    answered = query(QueryParams(index=INDEX, instructions=["Sort this list of numbers in ascending order."], k=3), ctx)
    ctx.close()
    first = answered.results[0]
    assert (first.task_id, first.score) == ("tenfold/sort_ascending", pytest.approx(1, abs=0.01))  # its own encoder


@pytest.mark.parametrize("params", [{"steps": 26, "batch": 16}, {"recipe": "pairs", "epochs": 3, "heldout_tasks": 0.2}])
def test_stopped_anywhere_and_resumed_the_index_is_the_same(aligned, context, our_index, tmp_path, monkeypatch, params):
    monkeypatch.setattr(alignment, "CHECKPOINT_STEPS", 10)
    expected, folder, events = aligned(**params)
    total = max(data["done"] for event, data in events if event == "progress")
    for number, at in enumerate((13, total // 2 + 14)):  # validating, delivering
        out = tmp_path / f"cut{number}"
        cut = context(out, {INDEX: our_index})
        cut._say = lambda event, data, cut=cut, at=at: setattr(cut, "cancelled", data.get("done") == at)
        with pytest.raises(Cancelled):
            align(AlignParams(index=INDEX, **params), cut)
        cut.release()
        again = context(out, {INDEX: our_index})
        assert again.restored() is not None
        assert align(AlignParams(index=INDEX, **params), again) == expected
        again.close()
        for name in ("index.tar", "curves.jsonl", "alignment.plotly.json"):
            assert (out / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize(
    ("tasks", "params", "said"),
    [
        pytest.param([("a", "c"), ("b", "c"), ("d", "e"), ("f", "e")], {}, "2 categories have two tasks", id="too-few"),
        pytest.param([("a", None), ("b", None)], {"recipe": "category"}, "has a category or a dataset",
                     id="nothing-to-align-to"),
        pytest.param([("a", None), ("b", None)], {}, "0 data sets have two instructions", id="no-several-instructions"),
        pytest.param([(n, n[0]) for n in ("a1", "a2", "b1", "b2", "c1", "c2")], {"unseen_categories": ["z"]},
                     "names 'z'; this index has a, b, c", id="unknown-category"),
        pytest.param([(n, n[0]) for n in ("a1", "a2", "b1", "b2", "c1", "c2")], {"recipe": "pairs"},
                     "no two instructions of one data set", id="no-pairs"),
        pytest.param([(n, n[0]) for n in ("a1", "a2", "b1", "b2", "c1", "c2")], {"unseen_categories": ["a", "b"]},
                     "needs two seen categories", id="nothing-left-to-train-on"),
    ],
)  # fmt: skip
def test_libraries_that_teach_nothing_are_refused(make_index, task, aligned, tmp_path, tasks, params, said):
    about = [task(name, f"Do {name}.", **({"category": category} if category else {})) for name, category in tasks]
    path = make_index(tmp_path / "i", about)[1]
    with pytest.raises(InvalidInput, match=said):
        aligned(path, **params)


def test_tasks_merged_into_an_aligned_index_go_through_its_head(aligned, make_index, task, tmp_path):
    _, folder, _ = aligned(steps=20)
    path = folder / "index.tar"
    result, merged = make_index(tmp_path / "m", [task("new", "Sort the towns.")], {INDEX: path}, base_index=INDEX,
                                update="merge")  # fmt: skip
    before, after = opened(path, tmp_path / "u1"), opened(merged, tmp_path / "u2")
    assert (result.encoded, after.size) == (1, before.size + 1)
    assert np.array_equal(after.head, before.head)
    assert np.array_equal(after.aligned[:-1], before.aligned)
    assert after.manifest["alignment"] == before.manifest["alignment"]
    _, whole = make_index(tmp_path / "r", [task("new", "Sort the towns.")], {INDEX: path}, base_index=INDEX)
    assert not opened(whole, tmp_path / "u3").is_aligned  # replace: another library
