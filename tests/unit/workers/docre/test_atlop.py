"""The encoder model as a job: word pieces, a few steps on a tiny encoder, resuming, loading back."""

import json

import pytest
import torch
from pydantic import ValidationError
from transformers import BertConfig, BertModel, BertTokenizerFast

from shared.data import relation_documents
from shared.jobs.catalog.docre.models import RecommendParams, TrainParams
from shared.jobs.errors import Cancelled, InvalidInput
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.relations.documents import document_of
from tests.unit.workers.docre.conftest import A, B, C, D
from workers.docre.atlop import training
from workers.docre.atlop.losses import adaptive_threshold, evidence_loss
from workers.docre.atlop.model import Atlop, Shape, grouped_outer, new_atlop, pairs_tensor
from workers.docre.atlop.stages import rates_of
from workers.docre.atlop.training import EncoderJob, evidence_counts
from workers.docre.atlop.wordpieces import word_pieces
from workers.docre.jobs import recommend, train
from workers.docre.pairs import Relations, label_matrix
from workers.docre.training import TrainingData

FIELDS = {"epochs": 2, "emb_size": 32, "block_size": 8, "batch": 8, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A BERT of two tiny layers over the words of our own documents; what it knows is what training teaches it."""
    folder = tmp_path_factory.mktemp("encoder")
    words = {
        t.lower() for w in ("train", "native") for d in relation_documents.documents(w) for s in d["sents"] for t in s
    }
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "*", *sorted(words - {"*"})]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
                        intermediate_size=64, max_position_embeddings=128)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def packed(encoder, tmp_path_factory):
    import tarfile

    path = tmp_path_factory.mktemp("packed") / "encoder.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(encoder, ".")
    return path


@pytest.fixture(scope="module")
def small(packed, cache, tmp_path_factory):
    """An atlop model of one epoch."""
    folder = tmp_path_factory.mktemp("small")
    ctx = LocalContext(folder, inputs={A: packed}, cache=cache)
    train(TrainParams(train="builtin:docre-train", model="atlop", encoder=A, **{**FIELDS, "epochs": 1}), ctx)
    ctx.close()
    return folder / "model.tar"


def test_every_mention_stands_between_marks_and_its_entity_at_the_first(encoder, document):
    scorer = new_atlop(encoder, Shape(3, 32, 8))
    pieces = word_pieces(document(), scorer.tokenizer, 64)
    tokens = scorer.tokenizer.convert_ids_to_tokens(pieces.ids)
    assert [[tokens[at] for at in entity] for entity in pieces.entities] == [["*", "*"], ["*"]]
    assert tokens[0] == "[CLS]"
    assert tokens[-1] == "[SEP]"
    assert [tokens[start] for start, _ in pieces.sentences] == ["*", "*"]
    assert pieces.sentences[0][1] == pieces.sentences[1][0]


def test_a_long_document_is_cut_and_not_refused(encoder, document):
    """The official DREEAM asserts the length before it cuts."""
    scorer = new_atlop(encoder, Shape(3, 32, 8))
    pieces = word_pieces(document(), scorer.tokenizer, 8)
    assert (len(pieces.ids), pieces.is_truncated) == (8, True)
    assert torch.isfinite(scorer.model(pieces, torch.tensor([[0, 1], [1, 0]])).logits).all()


def test_pairs_go_through_in_chunks_to_the_same_logits(encoder, monkeypatch):
    document = document_of(relation_documents.documents("train")[0])
    scorer = new_atlop(encoder, Shape(4, 32, 8))
    whole = scorer.scores_of([document])[0].logits
    monkeypatch.setattr("workers.docre.atlop.model.PAIR_CHUNK", 3)
    assert scorer.scores_of([document])[0].logits == pytest.approx(whole, abs=1e-6)


def test_documents_scored_together_get_the_scores_of_each_alone(encoder, document):
    """Shorter texts are padded, longer ones stand in two windows, one entity makes no pair."""
    long = document(sentences=["Ada was born in Lund ."] * 40, mentions=[[(0, 0, 1, "PER")], [(39, 4, 5, "LOC")]])
    alone = document(mentions=[[(0, 0, 1, "PER")]])
    documents = [document_of(relation_documents.documents("train")[0]), alone, long, document()]
    scorer = new_atlop(encoder, Shape(4, 32, 8, with_evidence=True, max_len=250))
    for one, together in zip(documents, scorer.scores_of(documents), strict=True):
        (single,) = scorer.scores_of([one])
        assert together.logits == pytest.approx(single.logits, abs=1e-5)
        assert together.evidence == pytest.approx(single.evidence, abs=1e-5)


def test_only_the_first_sentences_can_be_evidence(encoder, document):
    scorer = new_atlop(encoder, Shape(4, 32, 8, with_evidence=True, max_sent=1))
    assert scorer.scores_of([document()])[0].evidence.shape == (2, 1)


def test_evidence_sums_to_no_more_than_one(encoder):
    document = document_of(relation_documents.documents("train")[0])
    sums = new_atlop(encoder, Shape(4, 32, 8, with_evidence=True)).scores_of([document])[0].evidence.sum(axis=1)
    assert (sums <= 1 + 1e-6).all()
    assert (sums > 0.5).all()


def test_evidence_counts_how_many_labels_name_a_sentence(document):
    labels = [(0, 1, "P1", [0]), (0, 1, "P2", [0, 1])]
    relations = Relations(("P1", "P2"))
    assert evidence_counts(document(labels=labels), relations, 25).tolist() == [[2, 1], [0, 0]]
    assert evidence_counts(document(labels=labels), relations, 1).tolist() == [[2], [0]]


@pytest.mark.parametrize(
    ("stage", "width", "rates"),
    [
        pytest.param({}, 768, (5e-5, 1e-4, 30, 1.0, 1), id="base"),
        pytest.param({}, 1024, (3e-5, 1e-4, 30, 1.0, 1), id="large"),
        pytest.param({"teacher": A}, 768, (3e-5, 1e-4, 2, 5.0, 2), id="self_training"),
        pytest.param({"teacher": A}, 1024, (1e-5, 5e-5, 5, 5.0, 2), id="self_training_large"),
        pytest.param({"start": A}, 768, (1e-6, 3e-6, 10, 2.0, 1), id="fine_tuning"),
        pytest.param({"start": A, "epochs": 3, "clip": 9}, 768, (1e-6, 3e-6, 3, 9, 1), id="what_is_given_stands"),
    ],
)
def test_every_stage_has_the_official_rates(stage, width, rates):
    assert rates_of(TrainParams(train="builtin:docre-train", model="dreeam", **stage), width) == rates


def test_the_evidence_loss_of_a_batch_is_divided_by_the_batchs_pairs(packed, tmp_path, cache):
    """Two documents in one batch: their KL sums over the pairs with evidence of both, not a mean of means."""
    documents = [document_of(value) for value in relation_documents.documents("train")[:4]]
    params = TrainParams(train=B, model="dreeam", encoder=A, evi_lambda=1, **{**FIELDS, "batch": 2})
    ctx = LocalContext(tmp_path, inputs={A: packed}, cache=cache)
    job = EncoderJob(params, TrainingData(documents, documents, Relations.of(documents)), ctx)
    job._order = [0, 1, 2, 3]
    for module in job._model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    relation, kl, counted = [], 0.0, 0
    for n in (0, 1):
        with torch.no_grad():
            out = job._model(job._pieces[n], pairs_tensor(documents[n]))
        labels = torch.from_numpy(label_matrix(documents[n], job._data.relations))
        relation.append((adaptive_threshold(out.logits, labels), len(labels)))
        gold = evidence_counts(documents[n], job._data.relations, 25)
        pairs = int(((gold.sum(dim=1) > 0) & labels[:, 1:].any(dim=1)).sum())
        kl += float(evidence_loss(out.sentences, gold, labels[:, 1:].any(dim=1))) * pairs
        counted += pairs
    pairs = sum(count for _, count in relation)
    expected = sum(float(loss) * count for loss, count in relation) / pairs + kl / counted
    assert job._gradient(0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["atlop", "dreeam"])
def test_an_encoder_model_is_trained_kept_and_recommends(run, out, packed, tmp_path, kind):
    inputs = {A: packed}
    result = run(train, TrainParams(train="builtin:docre-train", model=kind, encoder=A, **FIELDS), "m", inputs)
    assert result.truncated == 0
    losses = [json.loads(line)["value"] for line in out("m", "curves.jsonl").splitlines() if b'"loss"' in line]
    assert losses[-1] < losses[0]
    shown = run(
        recommend, RecommendParams(model=B, documents="builtin:docre-native"), "r", {B: tmp_path / "m" / "model.tar"}
    )
    assert shown.documents == 24


def test_resumed_encoder_training_ends_in_the_same_bytes(run, out, packed, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 3)
    params = TrainParams(train="builtin:docre-train", model="dreeam", encoder=A, **FIELDS)
    run(train, params, "whole", {A: packed})

    class Stopping(LocalContext):
        def progress(self, done, total, unit, message=""):
            super().progress(done, total, unit, message)
            if done == 11:
                raise Cancelled("stopped")

    ctx = Stopping(tmp_path / "torn", inputs={A: packed}, cache=cache)
    with pytest.raises(Cancelled):
        train(params, ctx)
    ctx.release()
    run(train, params, "torn", {A: packed})
    assert out("torn", "model.tar") == out("whole", "model.tar")


def test_a_student_learns_from_its_teachers_attention_and_is_fine_tuned(run, packed, tmp_path):
    """DREEAM's three jobs: the distant documents carry no evidence, the student's comes from the teacher."""
    distant = [
        {**d, "labels": [{k: v for k, v in e.items() if k != "evidence"} for e in d["labels"]]}
        for d in relation_documents.documents("train")[:32]
    ]
    (tmp_path / "distant.json").write_text(json.dumps(distant))
    common = {"model": "dreeam", "dev": "builtin:docre-native", "emb_size": 32, "block_size": 8, "batch": 8}
    inputs = {A: packed, B: tmp_path / "distant.json", C: tmp_path / "t" / "model.tar", D: tmp_path / "s" / "model.tar"}
    ours = "builtin:docre-train"
    run(train, TrainParams(train=ours, encoder=A, epochs=2, learning_rate=1e-3, **common), "t", inputs)
    student = run(train, TrainParams(train=B, encoder=A, teacher=C, epochs=2, **common), "s", inputs)
    tuned = run(train, TrainParams(train=ours, start=D, epochs=1, **common), "f", inputs)
    assert (student.documents, tuned.documents) == (32, 64)
    assert tuned.loss < student.loss * 2


def test_with_no_weight_on_the_attention_a_teacher_changes_nothing_and_with_some_it_does(run, out, packed, tmp_path):
    inputs = {A: packed, C: tmp_path / "t" / "model.tar"}
    params = TrainParams(train="builtin:docre-train", model="dreeam", encoder=A, **{**FIELDS, "epochs": 1})
    run(train, params, "t", inputs)
    taught = params.model_copy(update={"teacher": Ref(C), "attn_lambda": 0.0, "accumulation": 1, "clip": 5.0,
                                       "encoder_learning_rate": 5e-5})  # fmt: skip
    plainly = params.model_copy(update={"evi_lambda": 0.0, "clip": 5.0})
    for name, each in {
        "plain": plainly,
        "idle": taught,
        "busy": taught.model_copy(update={"attn_lambda": 1.0}),
    }.items():
        run(train, each, name, inputs)
    assert out("idle", "model.tar") == out("plain", "model.tar")
    assert out("busy", "model.tar") != out("plain", "model.tar")


def test_fusion_finds_a_threshold_on_dev_and_recommends_by_it(run, out, packed, tmp_path):
    params = TrainParams(train="builtin:docre-train", model="dreeam", encoder=A, fusion=True, **FIELDS)
    result = run(train, params, "m", {A: packed})
    assert result.fused is not None
    inputs = {B: tmp_path / "m" / "model.tar"}
    for name, fusion in (("th", False), ("fused", True)):
        run(recommend, RecommendParams(model=B, documents="builtin:docre-native", fusion=fusion), name, inputs)
    at_th, by_fusion = (out(name, "predictions.json") for name in ("th", "fused"))
    assert {"title", "h_idx", "t_idx", "r", "evidence"} == set((at_th or by_fusion)[0])
    assert at_th != by_fusion


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param({"teacher": A, "start": B, "model": "dreeam"}, "a job each", id="two_stages"),
        pytest.param({"teacher": A, "model": "atlop"}, "teacher needs model dreeam", id="teacher_of_atlop"),
        pytest.param({"fusion": True, "model": "linear"}, "fusion needs model dreeam", id="fusion_of_linear"),
        pytest.param({"start": A}, "start needs model atlop or dreeam", id="start_of_linear"),
    ],
)
def test_stages_that_make_no_sense_are_refused(fields, says):
    with pytest.raises(ValidationError, match=says):
        TrainParams(train="builtin:docre-train", **fields)


@pytest.mark.parametrize(
    ("kind", "field", "says"),
    [
        pytest.param(
            "dreeam", "teacher", r"teacher \(file:.*is a model atlop, which has learned no evidence", id="teacher"
        ),
        pytest.param("dreeam", "start", r"start \(file:.*is a model atlop, not dreeam", id="start"),
    ],
)
def test_a_model_of_another_kind_is_no_teacher_and_no_start(run, packed, small, kind, field, says):
    params = TrainParams(train="builtin:docre-train", model=kind, encoder=A, **{field: B}, **FIELDS)
    with pytest.raises(InvalidInput, match=says):
        run(train, params, inputs={A: packed, B: small}, finish=False)


def test_a_model_without_fusion_can_not_fuse(run, small):
    with pytest.raises(InvalidInput, match="was trained without fusion"):
        run(recommend, RecommendParams(model=B, documents="builtin:docre-native", fusion=True), "r", {B: small}, False)


def test_the_whole_model_has_gradients(encoder):
    document = document_of(relation_documents.documents("train")[0])
    scorer = new_atlop(encoder, Shape(4, 32, 8, with_evidence=True))
    model: Atlop = scorer.model.train()
    out = model(word_pieces(document, scorer.tokenizer, 128), pairs_tensor(document))
    (out.logits.sum() + out.sentences.pow(2).sum()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None and "pooler" not in n]
    assert without == []
    assert grouped_outer(torch.ones(1, 4), torch.ones(1, 4), 2).shape == (1, 8)
