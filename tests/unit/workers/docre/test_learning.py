"""docre.train, docre.recommend, docre.evaluate: the linear model, choices by cost, the gap report, resuming."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from shared.data import relation_documents
from shared.jobs.catalog.docre.evaluation import EvaluateParams
from shared.jobs.catalog.docre.models import RecommendParams, TrainParams
from shared.jobs.errors import Cancelled, InvalidInput
from shared.jobs.local import LocalContext
from shared.metrics.relations import facts_of
from shared.relations.documents import document_of
from tests.unit.workers.docre.conftest import A, B, C, D
from workers.docre import linear_job, recommending
from workers.docre.baselines import most_frequent_relations, predict_most_frequent
from workers.docre.calibration import Calibration, calibrate, reliability
from workers.docre.decoding import Ranked, best_margin, curve
from workers.docre.evaluating import jensen_shannon
from workers.docre.features import closest, feature_matrix
from workers.docre.inventories import DOCRED, JACRED, JACRED_TYPES, SHARED
from workers.docre.jobs import evaluate, recommend, train
from workers.docre.linear import LinearModel
from workers.docre.pairs import Relations, label_matrix, ordered_pairs, pair_row
from workers.docre.recommending import Candidate, Expected, expected, facts_by_name, shown, threshold

OURS, NATIVE = "builtin:docre-train", "builtin:docre-native"


@pytest.fixture(scope="module")
def model(tmp_path_factory, cache):
    """(result, folder) of the linear model on our own documents."""
    folder = tmp_path_factory.mktemp("model")
    ctx = LocalContext(folder, cache=cache)
    result = train(TrainParams(train=OURS, epochs=8), ctx)
    ctx.close()
    return result, folder


def test_pairs_are_every_head_with_every_other_entity(document):
    three = document(sentences=["a b c"], mentions=[[(0, n, n + 1, "X")] for n in range(3)], labels=[(2, 0, "P1", [0])])
    pairs = ordered_pairs(three)
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]
    assert [pair_row(h, t, 3) for h, t in pairs.tolist()] == list(range(6))
    labels = label_matrix(three, Relations(("P0", "P1")))
    assert labels[4].tolist() == [0, 0, 1]
    assert labels[:, 0].tolist() == [1, 1, 1, 1, 0, 1]


def test_the_closest_mentions_are_of_the_nearest_sentences_then_words(document):
    far = document(
        sentences=["Ada sings .", "Ada likes Lund , old Lund"],
        mentions=[[(0, 0, 1, "PER"), (1, 0, 1, "PER")], [(1, 2, 3, "LOC"), (1, 5, 6, "LOC")]],
    )
    near = closest(far, 0, 1)
    assert (near.head.sent_id, near.tail.start, near.distance) == (1, 2, 0)


def test_feature_rows_have_length_one_and_know_the_direction(document):
    x = feature_matrix(document(), 2**12)
    np.testing.assert_allclose(np.sqrt(x.multiply(x).sum(axis=1)), 1, rtol=1e-6)
    assert (x[0] != x[1]).nnz > 0


def test_a_document_of_one_entity_has_no_pairs(document):
    alone = document(mentions=[[(0, 0, 1, "PER")]])
    assert feature_matrix(alone, 64).shape == (0, 64)
    assert ordered_pairs(alone).shape == (0, 2)


# Training -------------------------------------------------------------------------------------------------------------


def test_the_linear_model_beats_the_most_frequent_relation(model):
    result, folder = model
    assert result.at_best.relation.f1 > result.baseline.all_pairs.f1
    assert result.baseline.model_same_sentence.f1 > result.baseline.same_sentence.f1
    names = {path.name for path in folder.iterdir()}
    assert {"model.tar", "predictions.json", "calibration.json", "curves.jsonl"} <= names
    assert {"training.plotly.json", "precision_recall.plotly.json", "reliability.plotly.json"} <= names


def test_another_seed_is_another_model_and_the_same_seed_the_same_bytes(model, run, out):
    _, folder = model
    run(train, TrainParams(train=OURS, epochs=8), "again")
    run(train, TrainParams(train=OURS, epochs=8, seed=1), "other")
    bytes_of = (folder / "model.tar").read_bytes()
    assert out("again", "model.tar") == bytes_of
    assert out("other", "model.tar") != bytes_of


def test_resumed_training_ends_in_the_same_bytes(model, run, out, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(linear_job, "CHECKPOINT_S", 0.0)

    class Stopping(LocalContext):
        def progress(self, done, total, unit, message=""):
            super().progress(done, total, unit, message)
            if done >= total // 2:
                raise Cancelled("stopped")

    ctx = Stopping(tmp_path / "torn", cache=cache)
    with pytest.raises(Cancelled):
        train(TrainParams(train=OURS, epochs=8), ctx)
    ctx.release()
    run(train, TrainParams(train=OURS, epochs=8), "torn")
    assert out("torn", "model.tar") == (model[1] / "model.tar").read_bytes()


def test_the_baseline_takes_the_most_frequent_relation_of_a_type_pair(document):
    def one(r):
        return document(labels=[(0, 1, r, [0])])

    table = most_frequent_relations([one("P2"), one("P2"), one("P1")])
    assert table == {("PER", "LOC"): "P2"}
    assert [p.key.relation for p in predict_most_frequent([document()], table, same_sentence=False)] == ["P2"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"labels": None}, "labels is missing", id="blind"),
        pytest.param({"labels": []}, "holds no label", id="no_labels"),
    ],
)
def test_documents_without_labels_can_not_teach(run, tmp_path, change, says):
    documents = [
        {k: v for k, v in {**d, **change}.items() if v is not None} for d in relation_documents.documents("train")
    ]
    (tmp_path / "d.json").write_text(json.dumps(documents))
    with pytest.raises(InvalidInput, match=says):
        run(train, TrainParams(train=A), inputs={A: tmp_path / "d.json"}, finish=False)


def test_a_relation_outside_the_inventory_is_named_with_document_and_field(run, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps({"rel2id": {"Na": 0, "P19": 1}}))
    with pytest.raises(InvalidInput, match=r"train: document 0 \('train 0'\): labels\[\d+\]\.r: 'P\d+' is not in"):
        run(train, TrainParams(train=OURS, relations=A), inputs={A: tmp_path / "r.json"}, finish=False)


def test_an_unknown_encoder_is_refused(run):
    with pytest.raises(InvalidInput, match="builtin:nope"):
        run(train, TrainParams(train=OURS, model="atlop", encoder="builtin:nope"), finish=False)


def test_a_block_that_does_not_divide_the_width_is_refused():
    with pytest.raises(ValidationError, match="block_size 7 does not divide emb_size 768"):
        TrainParams(train=OURS, block_size=7)


# Choosing what to show ------------------------------------------------------------------------------------------------


def candidate(p):
    return Candidate((0, 1, "P1"), 0.0, p, ())


def test_a_candidate_is_shown_if_that_is_cheaper_than_leaving_it_out():
    """Shown costs (1 − p)·c_del, hidden p·c_add: equal at p = c_del / (c_add + c_del)."""
    assert threshold(1, 1) == 0.5
    assert threshold(4, 1) == 0.2
    candidates = [candidate(p) for p in (0.9, 0.6, 0.3)]
    assert [c.p for c in shown(candidates, 0.5, 64)] == [0.9, 0.6]
    assert [c.p for c in shown(candidates, 0.2, 2)] == [0.9, 0.6]
    found = expected(candidates, shown(candidates, 0.5, 64))
    assert found == pytest.approx(Expected(adds=0.3, deletes=0.5))


def ranked(pairs, gold=2):
    margins, truth = zip(*sorted(pairs, reverse=True), strict=True)
    return Ranked(np.array(margins, float), np.array(truth, bool), gold)


def test_isotonic_calibration_pools_what_is_out_of_order():
    """Truths 0, 1, 0, 1 by rising margin: the middle two pool to 1/2."""
    fit = calibrate(ranked([(1, 0), (2, 1), (3, 0), (4, 1)]), "isotonic")
    assert fit.probability(np.array([0.0, 1, 2, 3, 4, 9])).tolist() == [0, 0, 0.5, 0.5, 1, 1]


def test_platt_finds_the_curve_that_made_the_data():
    rng = np.random.default_rng(0)
    m = rng.normal(0, 3, 20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-(1.5 * m - 1)))
    fit = calibrate(ranked(list(zip(m, truth, strict=True))), "platt")
    assert fit.x == pytest.approx((1.5, -1), abs=0.1)
    assert Calibration.of_json(fit.as_json()) == fit


def test_calibration_without_candidates_says_no():
    empty = Ranked(np.zeros(0), np.zeros(0, bool), 0)
    assert calibrate(empty, "isotonic").probability(np.array([5.0])).tolist() == [0]
    assert calibrate(empty, "platt").x == (1, 0)


def test_the_best_margin_lies_between_two_candidates():
    points = curve(ranked([(4, 1), (3, 1), (1, 0)]))
    assert best_margin(points).margin == 2.0
    assert best_margin(points).f1 == 1.0
    assert best_margin([]) is None


def test_reliability_tells_predicted_and_observed():
    table = reliability([0.05, 0.95, 0.95], np.array([False, True, False]))
    assert [(row["count"], row["true"]) for row in table] == [(1, 0.0), (2, 0.5)]


# Recommending ---------------------------------------------------------------------------------------------------------


def test_recommendations_save_steps_and_say_what_they_rest_on(model, run, out):
    inputs = {A: model[1] / "model.tar"}
    result = run(recommend, RecommendParams(model=A, documents=NATIVE), inputs=inputs)
    effort = result.effort
    assert (result.documents, result.threshold, result.calibrated_on) == (24, 0.5, "dev")
    assert effort.steps == pytest.approx(effort.adds + effort.deletes)
    assert effort.reduction == pytest.approx(1 - effort.steps / effort.scratch)
    assert effort.steps < effort.scratch
    lines = [json.loads(line) for line in out("out", "recommendations.jsonl").splitlines()]
    assert len(lines) == 24
    assert {"h", "t", "r", "score", "p", "evidence"} == set(lines[0]["recommendations"][0])
    assert min(r["p"] for line in lines for r in line["recommendations"]) > 0.5


def test_twenty_native_documents_calibrate_and_fewer_do_not(model, run, tmp_path):
    native = relation_documents.documents("native")
    (tmp_path / "many.json").write_text(json.dumps(native))
    (tmp_path / "few.json").write_text(json.dumps(native[:19]))
    inputs = {A: model[1] / "model.tar", B: tmp_path / "many.json", C: tmp_path / "few.json"}
    many = run(recommend, RecommendParams(model=A, documents=NATIVE, calibration=B), "many", inputs)
    few = run(recommend, RecommendParams(model=A, documents=NATIVE, calibration=C), "few", inputs)
    assert (many.calibrated_on, many.calibration_documents) == ("native", 24)
    assert few.calibrated_on == "dev"
    assert many.effort.steps <= few.effort.steps


def test_dear_additions_show_more(model, run):
    inputs = {A: model[1] / "model.tar"}
    cheap = run(recommend, RecommendParams(model=A, documents=NATIVE), "cheap", inputs)
    dear = run(recommend, RecommendParams(model=A, documents=NATIVE, c_add=4), "dear", inputs)
    assert dear.recommended >= cheap.recommended
    assert dear.effort.weighted_scratch == pytest.approx(4 * dear.effort.scratch)


def test_the_list_to_compare_with_is_what_knowledge_holds_by_name(model, run, document):
    known = facts_of([document(labels=[(0, 1, "P19", [0])])])
    other = document("Bob", ["Bob met Ada in Lund ."], [[(0, 0, 1, "PER")], [(0, 2, 3, "PER")], [(0, 4, 5, "LOC")]])
    assert facts_by_name(other, known) == {(1, 2, "P19")}
    result = run(
        recommend, RecommendParams(model=A, documents=NATIVE, knowledge=OURS), inputs={A: model[1] / "model.tar"}
    )
    effort = result.effort
    assert effort.knowledge_reduction == pytest.approx(1 - effort.steps / effort.knowledge_steps)


def test_predictions_are_those_at_th_and_at_the_best_margin_of_dev(model, run, out):
    result = run(recommend, RecommendParams(model=A, documents=NATIVE), inputs={A: model[1] / "model.tar"})
    at_th, at_best = (out("out", f"{name}.json") for name in ("predictions", "predictions_at_best"))
    gold = {(d["title"], e["h"], e["t"], e["r"]) for d in relation_documents.documents("native") for e in d["labels"]}
    found = {(p["title"], p["h_idx"], p["t_idx"], p["r"]) for p in at_th}
    assert len(found ^ gold) / 24 == pytest.approx(result.effort.at_th_steps)
    assert at_best != at_th


def test_recommending_goes_on_behind_its_checkpoint_to_the_same_bytes(model, run, out, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(recommending, "CHECKPOINT_EVERY", 8)
    inputs = {A: model[1] / "model.tar"}
    params = RecommendParams(model=A, documents=NATIVE, batch=4)
    run(recommend, params, "whole", inputs)

    class Stopping(LocalContext):
        def progress(self, done, total, unit, message=""):
            super().progress(done, total, unit, message)
            if done == 12:
                raise Cancelled("stopped")

    ctx = Stopping(tmp_path / "torn", inputs=inputs, cache=cache)
    with pytest.raises(Cancelled):
        recommend(params, ctx)
    ctx.release()
    scored = []
    scores_of = LinearModel.scores_of
    monkeypatch.setattr(LinearModel, "scores_of", lambda self, d: scored.extend(d) or scores_of(self, d))
    run(recommend, params, "torn", inputs)
    assert len(scored) == 24 - 8
    names = ("recommendations.jsonl", "predictions.json", "predictions_at_best.json", "steps.jsonl")
    assert [out("torn", name) for name in names] == [out("whole", name) for name in names]


def test_a_model_of_jacreds_types_reads_docreds(run, tmp_path):
    """Learned on TIME, NUM, MISC as DAT, %, ART: documents of either dataset get the same scores."""
    theirs = [
        {**d, "vertexSet": [[{**m, "type": JACRED_TYPES.get(m["type"], m["type"])} for m in e] for e in d["vertexSet"]]}
        for d in relation_documents.documents("native")
    ]
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    assert theirs != relation_documents.documents("native")
    run(train, TrainParams(train=OURS, epochs=2, types="jacred"), "m")
    inputs = {A: tmp_path / "m" / "model.tar", B: tmp_path / "theirs.json"}
    for name, documents in (("ours", NATIVE), ("theirs", B)):
        run(recommend, RecommendParams(model=A, documents=documents), name, inputs)
    lists = [(tmp_path / name / "recommendations.jsonl").read_bytes() for name in ("ours", "theirs")]
    assert lists[0] == lists[1]


def test_documents_of_one_title_stay_apart(run, out, tmp_path):
    """Two documents called alike: dev figures count both, and lists are joined by their place."""
    native = relation_documents.documents("native")
    alike = [{**d, "title": "alike"} for d in native]
    (tmp_path / "alike.json").write_text(json.dumps(alike))
    inputs = {A: tmp_path / "alike.json"}
    ours, theirs = (
        run(train, TrainParams(train=OURS, dev=dev, epochs=2), name, inputs)
        for name, dev in (("named", NATIVE), ("alike", A))
    )
    assert ours.at_th == theirs.at_th
    assert {p["title"] for p in out("alike", "predictions.json")} == {"alike"}
    lines = [{"title": "alike", "recommendations": d["labels"]} for d in native]
    (tmp_path / "lists.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cell = {"predictions": B, "gold": A}
    result = run(evaluate, EvaluateParams(entries=[cell]), "e", {**inputs, B: tmp_path / "lists.jsonl"})
    assert result.cells[0].relation.f1 == 1
    (tmp_path / "list.json").write_text(json.dumps([{"title": "alike", "h_idx": 0, "t_idx": 1, "r": "P19"}]))
    with pytest.raises(
        InvalidInput, match=r"\[0\].title: several gold documents are titled 'alike'; make titles unique"
    ):
        run(evaluate, EvaluateParams(entries=[cell]), "r", {**inputs, B: tmp_path / "list.json"}, False)


def test_no_document_is_dropped_at_the_end_of_an_epoch(run, out):
    """The official loader drops the last, smaller batch: 58 documents in batches of 8 are 8 batches, not 7."""
    seen = []
    ctx_progress = LocalContext.progress
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalContext, "progress", lambda self, *a: seen.append(a[:2]) or ctx_progress(self, *a))
        run(train, TrainParams(train=OURS, epochs=1))
    assert seen == [(8, 8)]


def test_what_is_no_model_is_refused(run, tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar")
    with pytest.raises(InvalidInput, match="is not a tar"):
        run(recommend, RecommendParams(model=A, documents=NATIVE), inputs={A: tmp_path / "x.tar"}, finish=False)


# Evaluating -----------------------------------------------------------------------------------------------------------


def entry(**fields):
    return {"predictions": A, "gold": B, "trained_on": "native", "tested_on": "test", "train": D, **fields}


@pytest.fixture
def measured(tmp_path):
    """Predictions of two models on one gold set: everything, and every second label."""
    gold = relation_documents.documents("native")
    listed = [{"title": d["title"], "h_idx": e["h"], "t_idx": e["t"], "r": e["r"], "evidence": e["evidence"]}
              for d in gold for e in d["labels"]]  # fmt: skip
    files = {A: listed, B: gold, C: listed[::2], D: relation_documents.documents("train")}
    for ref, value in files.items():
        (tmp_path / f"{ref[5]}.json").write_text(json.dumps(value))
    return {ref: tmp_path / f"{ref[5]}.json" for ref in files}


def test_the_gap_report_tells_recall_apart_from_precision(run, out, measured):
    entries = [entry(), entry(predictions=C, trained_on="transferred")]
    result = run(evaluate, EvaluateParams(entries=entries, gap=("native", "transferred")), inputs=measured)
    perfect, half = result.cells
    assert (perfect.relation.f1, perfect.evidence.f1, half.relation.p) == (1, 1, 1)
    (gap,) = result.gap
    assert gap.recall_difference == pytest.approx(0.5, abs=0.01)
    assert gap.precision_difference == 0
    assert gap.label_divergence == 0
    assert 0 < gap.vocabulary_overlap < 1
    assert "no part here" in gap.says
    assert gap.false_negatives[0].missed_transferred > gap.false_negatives[0].missed_native
    assert set(perfect.parts) >= {"intra", "frequent", "long_tail", "seen", "unseen"}
    assert set(out("out", "evaluation.json")["per_relation"]["native → test"]) >= {"P19", "P50"}


def test_the_shared_relations_are_those_of_both_published_inventories():
    assert (len(DOCRED), len(JACRED), len(SHARED)) == (96, 35, 33)
    assert set(JACRED) - SHARED == {"P1830", "P121"}


def test_the_inventory_is_docreds_as_published(real):
    published = json.loads((real / "docred_relations.json").read_text())["rel2id"]
    assert [relation for relation in published if relation != "Na"] == list(DOCRED)


def test_only_shared_relations_count_across_languages(run, measured):
    """P17 (country) is DocRED's alone; P19 (place of birth) is in both."""
    whole = run(evaluate, EvaluateParams(entries=[entry()]), "whole", measured).cells[0]
    cell = run(evaluate, EvaluateParams(entries=[entry()], only_shared_relations=True), "shared", measured).cells[0]
    gold = [e["r"] for d in relation_documents.documents("native") for e in d["labels"]]
    assert cell.gold == sum(r in SHARED for r in gold) < whole.gold


@pytest.mark.parametrize(
    ("which", "says"),
    [
        pytest.param(B, r"entries\[0\].gold .*document 0 \('native 0'\): labels\[0\].r: 'P99999' is not in", id="gold"),
        pytest.param(
            A, r"entries\[0\].predictions: r: 'P99999' is not in DocRED's or JacRED's inventory", id="predictions"
        ),
    ],
)
def test_relations_of_neither_inventory_can_not_be_compared(run, measured, tmp_path, which, says):
    content = json.loads(measured[which].read_text())
    if which == B:
        content[0]["labels"][0]["r"] = "P99999"
    else:
        content[0]["r"] = "P99999"
    (tmp_path / "odd.json").write_text(json.dumps(content))
    params = EvaluateParams(entries=[entry()], only_shared_relations=True)
    with pytest.raises(InvalidInput, match=says):
        run(evaluate, params, inputs={**measured, which: tmp_path / "odd.json"}, finish=False)


def test_jensen_shannon_is_zero_for_equal_and_one_for_disjoint():
    assert jensen_shannon({"a": 1}, {"a": 1}) == 0
    assert jensen_shannon({"a": 1}, {"b": 1}) == 1


@pytest.mark.parametrize(
    ("predictions", "says"),
    [
        pytest.param([{"title": "native 0", "h_idx": 99, "t_idx": 1, "r": "P1"}], "h_idx: 99 is no entity", id="range"),
        pytest.param([{"title": "native 0", "h_idx": 0, "r": "P1"}], r"\[0\].t_idx: expected int", id="missing"),
        pytest.param(["x"], r"\[0\]: expected \{title", id="no_object"),
    ],
)
def test_broken_predictions_are_named(run, measured, tmp_path, predictions, says):
    (tmp_path / "bad.json").write_text(json.dumps(predictions))
    with pytest.raises(InvalidInput, match=says):
        run(evaluate, EvaluateParams(entries=[entry()]), inputs={**measured, A: tmp_path / "bad.json"}, finish=False)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param({"entries": [entry(), entry()]}, "given twice", id="one_cell_twice"),
        pytest.param({"entries": [entry()], "gap": ("native", "x")}, "which is no trained_on", id="unknown_row"),
    ],
)
def test_entries_that_make_no_table_are_refused(fields, says):
    with pytest.raises(ValidationError, match=says):
        EvaluateParams(**fields)


def test_our_own_documents_are_whole():
    for which in ("train", "native"):
        documents = [document_of(value) for value in relation_documents.documents(which)]
        assert len(documents) == relation_documents.SIZES[which]
        assert all(label.evidence for d in documents for label in d.labels)
        for d in documents:
            for mention in (m for entity in d.entities for m in entity):
                assert " ".join(d.sentences[mention.sent_id][mention.start : mention.end]) == mention.name
