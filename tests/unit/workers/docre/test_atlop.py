"""The encoder model as a job: word pieces, a few steps on a tiny encoder, resuming, loading back."""

import json

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from shared.data import relation_documents
from shared.jobs.catalog.docre.models import RecommendParams, TrainParams
from shared.jobs.errors import Cancelled
from shared.jobs.local import LocalContext
from shared.relations.documents import document_of
from tests.unit.workers.docre.conftest import A, B
from workers.docre.atlop import training
from workers.docre.atlop.model import Atlop, Shape, grouped_outer, new_atlop, pairs_tensor
from workers.docre.atlop.training import evidence_counts
from workers.docre.atlop.wordpieces import word_pieces
from workers.docre.jobs import recommend, train
from workers.docre.pairs import Relations

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
    whole = scorer.scores(document).logits
    monkeypatch.setattr("workers.docre.atlop.model.PAIR_CHUNK", 3)
    assert scorer.scores(document).logits == pytest.approx(whole, abs=1e-6)


def test_evidence_sums_to_no_more_than_one(encoder):
    document = document_of(relation_documents.documents("train")[0])
    sums = new_atlop(encoder, Shape(4, 32, 8, with_evidence=True)).scores(document).evidence.sum(axis=1)
    assert (sums <= 1 + 1e-6).all()
    assert (sums > 0.5).all()


def test_evidence_counts_how_many_labels_name_a_sentence(document):
    labels = [(0, 1, "P1", [0]), (0, 1, "P2", [0, 1])]
    counts = evidence_counts(document(labels=labels), Relations(("P1", "P2")))
    assert counts.tolist() == [[2, 1], [0, 0]]


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


def test_the_whole_model_has_gradients(encoder):
    document = document_of(relation_documents.documents("train")[0])
    scorer = new_atlop(encoder, Shape(4, 32, 8, with_evidence=True))
    model: Atlop = scorer.model.train()
    out = model(word_pieces(document, scorer.tokenizer, 128), pairs_tensor(document))
    (out.logits.sum() + out.sentences.pow(2).sum()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None and "pooler" not in n]
    assert without == []
    assert grouped_outer(torch.ones(1, 4), torch.ones(1, 4), 2).shape == (1, 8)
