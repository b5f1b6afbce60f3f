"""An encoder that only Sentence-Transformers reads serves every kind, by the same index format."""

import io
import json
import tarfile
import warnings

import numpy as np
import pytest

from shared.jobs.catalog.insta import AlignParams, EvaluateParams, IndexParams, QueryParams
from shared.jobs.errors import InvalidInput
from shared.models.folder import describe_folder
from workers.insta.index_file import NEEDED
from workers.insta.jobs import align, evaluate, index, query

peer = pytest.importorskip("sentence_transformers")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers.sentence_transformer import modules

pytestmark = pytest.mark.filterwarnings("ignore")  # of sentence-transformers
INDEX, BASE, ENCODER = ("file:" + letter * 64 for letter in "bcd")


@pytest.fixture(scope="module")
def static(minilm, tmp_path_factory):
    """MiniLM's word vectors averaged, behind a prompt: (folder, the same packed)."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("static") / "encoder"
    words = load_file(minilm / "model.safetensors")["embeddings.word_embeddings.weight"]
    vectors = modules.StaticEmbedding(Tokenizer.from_file(str(minilm / "tokenizer.json")), embedding_weights=words)
    model = peer.SentenceTransformer(modules=[vectors], prompts={"t": "task: "}, default_prompt_name="t", device="cpu")
    model.save(str(folder), create_model_card=False)
    with tarfile.open(folder.with_suffix(".tar"), "w") as tar:
        tar.add(folder, "encoder")
    return folder, folder.with_suffix(".tar")


@pytest.fixture(scope="module")
def indexed(static, context, tmp_path_factory):
    """(result, path) of our library under that encoder."""
    folder = tmp_path_factory.mktemp("index")
    ctx = context(folder, {ENCODER: static[1]})
    result = index(IndexParams(library="builtin:tasks", encoder=ENCODER), ctx)
    ctx.close()
    return result, folder / "index.tar"


def test_the_index_has_the_same_members_and_names_the_encoder_by_its_digest(indexed, static):
    result, path = indexed
    assert (result.backend, result.dimensions) == ("sentence-transformers", 384)
    assert result.encoder == describe_folder(static[0]).digest
    with tarfile.open(path) as tar:
        assert {*NEEDED, "encoder.tar"} == set(tar.getnames())
        manifest = json.load(tar.extractfile("manifest.json"))
        vectors = np.load(io.BytesIO(tar.extractfile("vectors.npy").read()))
        first = json.loads(tar.extractfile("tasks.jsonl").readline())
    assert manifest["encoder"] == {
        "ref": ENCODER, "digest": result.encoder, "max_tokens": 256, "backend": "sentence-transformers"
    }  # fmt: skip
    theirs = peer.SentenceTransformer(str(static[0]), device="cpu")
    wanted = theirs.encode(first["instructions"], normalize_embeddings=True)
    assert vectors[: len(wanted)] == pytest.approx(wanted, abs=1e-3)


def test_without_a_cluster_its_folder_may_be_given_as_it_is(indexed, static, context, tmp_path):
    ctx = context(tmp_path, {ENCODER: static[0]})
    result = index(IndexParams(library="builtin:tasks", encoder=ENCODER), ctx)
    ctx.close()
    assert result.encoder == indexed[0].encoder
    with tarfile.open(tmp_path / "index.tar") as tar:
        packed = io.BytesIO(tar.extractfile("encoder.tar").read())
    with tarfile.open(fileobj=packed) as tar:
        assert "modules.json" in tar.getnames()


def test_a_query_finds_its_task(indexed, context, tmp_path):
    ctx = context(tmp_path, {INDEX: indexed[1]})
    result = query(QueryParams(index=INDEX, instructions=["Sort the list of numbers in ascending order."], k=3), ctx)
    ctx.close()
    assert result.results[0].task_id == "tenfold/sort_ascending"
    assert result.warnings == []


def test_an_unchanged_library_is_not_encoded_again(indexed, static, context, tmp_path):
    ctx = context(tmp_path, {BASE: indexed[1], ENCODER: static[1]})
    again = index(IndexParams(library="builtin:tasks", encoder=ENCODER, base_index=BASE), ctx)
    ctx.close()
    assert (again.encoded, again.version) == (0, indexed[0].version)


def test_vectors_of_two_encoders_are_not_mixed(indexed, context, tmp_path):
    ctx = context(tmp_path, {BASE: indexed[1]})
    with pytest.raises(InvalidInput, match="mixed encoders"):
        index(IndexParams(library="builtin:tasks", base_index=BASE), ctx)


@pytest.mark.parametrize("train", ["head", "full"])
def test_it_is_aligned_and_the_aligned_one_answers(indexed, static, context, tmp_path, train):
    ctx = context(tmp_path / "a", {INDEX: indexed[1], ENCODER: static[1]})
    steps = {"steps": 3, "batch": 8, "heldout_tasks": 0.0}
    result = align(AlignParams(index=INDEX, train=train, **steps), ctx)
    ctx.close()
    assert result.loss_first is not None
    inputs = {INDEX: tmp_path / "a" / "index.tar", ENCODER: static[1]}
    ctx = context(tmp_path / "q", inputs)
    found = query(QueryParams(index=INDEX, instructions=["Sort the numbers in ascending order."], k=3), ctx)
    ctx.close()
    assert found.results[0].task_id.startswith("tenfold/sort")
    ctx = context(tmp_path / "e", inputs)
    measured = evaluate(EvaluateParams(index=INDEX, methods=["insta", "random"], resamples=100), ctx)
    ctx.close()
    insta, random = (measured.figures[place].metrics["ndcg@10"].micro for place in (0, 2))
    assert insta > 2 * random


def test_a_back_end_that_does_not_read_it_is_refused(static, context, tmp_path):
    ctx = context(tmp_path, {ENCODER: static[1]})
    with pytest.raises(InvalidInput, match=r"backend torch does not read this folder: .*leave backend out"):
        index(IndexParams(library="builtin:tasks", encoder=ENCODER, backend="torch"), ctx)
