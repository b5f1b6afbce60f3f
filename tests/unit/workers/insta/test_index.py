"""insta.index: what an index holds, resuming, changing it bit by bit, and what is refused."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from shared.jobs.catalog.insta import IndexParams, QueryParams
from shared.jobs.context import digest_of
from shared.jobs.errors import Cancelled, InvalidInput
from shared.jobs.local import LocalContext
from shared.models.sentence_encoder import can_run
from tests.synthetic_insta import synthetic_index
from workers.insta import encoders, indexing
from workers.insta.index import Index, open_folder
from workers.insta.index_file import NEEDED, unpack, write_tar
from workers.insta.jobs import index, query
from workers.insta.moments import background

LIBRARY, BASE, ENCODER = ("file:" + letter * 64 for letter in "abe")
LANDSCAPE = ("river", "stone", "cloud", "forest", "meadow", "island", "glacier", "valley")


def opened(path, folder):
    return Index(unpack(path, digest_of(path)[0], folder, "index", lambda fresh: None), "index")


@pytest.fixture
def landscape(task):
    """Tasks with one, two or three instructions each."""
    return [
        task(f"t/{name}", *(f"Write {'a long ' * i}sentence about the {name}." for i in range(1, 2 + n % 3)),
             category=f"c{n % 3}", dataset=name)
        for n, name in enumerate(LANDSCAPE)
    ]  # fmt: skip


def test_an_index_holds_what_it_says(make_index, landscape, encoder, tmp_path):
    result, path = make_index(tmp_path, landscape)
    with tarfile.open(path) as tar:
        assert [member.name for member in tar] == list(NEEDED)
    found = opened(path, tmp_path / "unpacked")
    texts = [text for each in landscape for text in each["instructions"]]
    assert (result.tasks, result.instructions, result.encoded, result.duplicates) == (8, 15, 15, 0)
    assert (result.categories, result.dimensions, result.truncated) == (3, 384, 0)
    assert found.texts == texts
    assert found.vectors.dtype == np.float16
    assert (np.asarray(found.vectors, np.float32) * encoder.encode(texts)).sum(axis=1).min() > 0.999
    assert found.offsets.tolist() == np.cumsum([0, *(len(each["instructions"]) for each in landscape)]).tolist()
    assert [found.find(each["id"]) for each in landscape] == list(range(8))
    assert found.find("t/none") is None
    hashes = np.load(found.folder / "hashes.npy")
    assert [row.tobytes() for row in hashes] == [hashlib.sha256(text.encode()).digest() for text in texts]
    manifest = found.manifest
    assert (manifest["encoder"]["digest"], manifest["encoder"]["backend"]) == (encoder.digest, encoder.backend)
    assert manifest["version"] == result.version


def test_the_background_is_that_of_all_rows(make_index, landscape, tmp_path):
    found = opened(make_index(tmp_path, landscape)[1], tmp_path / "unpacked")
    query = np.asarray(found.vectors[3], np.float64)
    cosines = found.vectors.astype(np.float64) @ query
    assert background(query, found.moments(False)) == pytest.approx((cosines.mean(), cosines.std()))


def test_equal_texts_are_encoded_once(make_index, task, tmp_path):
    result, path = make_index(tmp_path, [task("a", "Sort."), task("b", "Sort.", "Add."), task("c", "Add.")])
    assert (result.instructions, result.encoded, result.duplicates) == (4, 2, 2)
    vectors = opened(path, tmp_path / "unpacked").vectors
    assert np.array_equal(vectors[0], vectors[1])


def test_the_same_library_gives_the_same_bytes(make_index, landscape, tmp_path):
    first, again = make_index(tmp_path / "1", landscape)[1], make_index(tmp_path / "2", landscape)[1]
    assert first.read_bytes() == again.read_bytes()


def test_opening_reads_nothing_that_grows_with_the_library(tmp_path):
    """A hundred times the tasks, the same memory: what is large is mapped, not read."""

    def memory_to_open(tasks):
        folder = synthetic_index(tmp_path, tasks)
        tracemalloc.start()
        found = Index(folder, "synthetic")
        assert found.task(found.size - 1).id == f"task{tasks - 1:07}"
        assert found.find(f"task{tasks // 2:07}") == tasks // 2
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    memory_to_open(10)  # what is imported at the first use
    assert memory_to_open(200_000) < memory_to_open(2_000) + 64 * 1024


def test_an_array_of_any_order_comes_back_as_it_was(tmp_path):
    array = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    with (tmp_path / "x.tar").open("wb") as out:
        write_tar(out, {"axes.npy": array})
    with tarfile.open(tmp_path / "x.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    assert np.load(tmp_path / "axes.npy").tolist() == array.tolist()


# Changing an index ----------------------------------------------------------------------------------------------------


def test_only_what_changed_is_encoded(make_index, landscape, task, tmp_path):
    _, base = make_index(tmp_path / "base", landscape)
    changed = [*landscape[1:], task("t/new", "Write a poem about the sea.")]
    result, path = make_index(tmp_path / "next", changed, {BASE: base}, base_index=BASE)
    assert (result.tasks, result.encoded, result.reused) == (8, 1, 14)
    before, after = opened(base, tmp_path / "u1"), opened(path, tmp_path / "u2")
    assert np.array_equal(after.vectors[:14], before.vectors[1:])
    assert after.texts[-1] == "Write a poem about the sea."


def test_merging_adds_replaces_and_removes(make_index, landscape, task, tmp_path):
    _, base = make_index(tmp_path / "base", landscape)
    changes = [task("t/river", "Describe a river."), task("t/new", "Describe the sea.")]
    result, path = make_index(
        tmp_path / "next", changes, {BASE: base}, base_index=BASE, update="merge", remove=["t/stone"]
    )
    found = opened(path, tmp_path / "u")
    ids = [found.task_id(number) for number in range(found.size)]
    assert ids == [f"t/{name}" for name in LANDSCAPE if name != "stone"] + ["t/new"]
    assert found.task(0).instructions == ("Describe a river.",)
    assert (result.encoded, result.reused) == (2, 15 - 1 - 2)


def test_an_unchanged_library_reindexed_is_the_same_index(make_index, landscape, tmp_path):
    _, base = make_index(tmp_path / "base", landscape)
    result, path = make_index(tmp_path / "next", landscape, {BASE: base}, base_index=BASE)
    assert (result.encoded, result.reused) == (0, 15)
    assert path.read_bytes() == base.read_bytes()


EXAMPLE = {"input": "a river", "output": "The river runs."}


def with_examples(landscape):
    return [{**each, "example": {**EXAMPLE, "input": each["id"]}} for each in landscape]


def test_examples_that_did_not_change_are_not_encoded_again(make_index, landscape, task, tmp_path):
    tasks = with_examples(landscape)
    _, base = make_index(tmp_path / "base", tasks, samples=True)
    changed = [*tasks[1:], task("t/new", "Write a poem about the sea.", example=EXAMPLE)]
    result, path = make_index(tmp_path / "next", changed, {BASE: base}, base_index=BASE, samples=True)
    assert result.encoded == 2  # the new task's instruction and example
    before, after = opened(base, tmp_path / "u1"), opened(path, tmp_path / "u2")
    assert np.array_equal(after.samples[:7], before.samples[1:])
    assert after.samples[7].any()


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        pytest.param({"update": "merge"}, True, id="merge"),
        pytest.param({"update": "merge", "samples": False}, False, id="merge-without"),
        pytest.param({}, False, id="replace"),
    ],
)
def test_a_merge_keeps_examples(make_index, landscape, task, tmp_path, params, kept):
    _, base = make_index(tmp_path / "base", with_examples(landscape), samples=True)
    new = [task("t/new", "Write a poem about the sea.", example=EXAMPLE)]
    result, path = make_index(tmp_path / "next", new, {BASE: base}, base_index=BASE, **params)
    after = opened(path, tmp_path / "u")
    assert (after.samples is not None) == kept
    assert not kept or (result.encoded, int(after.samples.any(axis=1).sum())) == (2, 9)


def test_removing_alone_needs_no_library(make_index, landscape, context, tmp_path):
    _, base = make_index(tmp_path / "base", landscape)
    ctx = context(tmp_path / "next", {BASE: base})
    result = index(IndexParams(base_index=BASE, update="merge", remove=["t/river"]), ctx)
    ctx.close()
    assert (result.tasks, result.encoded) == (7, 0)


# Resuming -------------------------------------------------------------------------------------------------------------

KILLED = """
import sys
from tests.synthetic_insta import synthetic_index
from workers.insta import indexing
from workers.insta.jobs import index, query
from shared.jobs.catalog.insta import IndexParams, QueryParams
from shared.jobs.local import LocalContext
indexing.SHARD = 24
library, out, cache = sys.argv[1:]
ctx = LocalContext(out, inputs={"file:" + "a" * 64: library}, cache=cache,
                   say=lambda event, data: print(event, data.get("done"), flush=True))
index(IndexParams(library="file:" + "a" * 64), ctx)
ctx.close()
"""


def test_killed_in_the_middle_and_resumed_the_index_is_the_same_byte_for_byte(
    make_index, write_lines, task, cache, encoder, tmp_path, monkeypatch
):
    words = [f"{a} {b}" for a in LANDSCAPE for b in LANDSCAPE]
    tasks = [task(f"t{n:03}", f"Write {n} sentences: {text}." * (1 + n % 7)) for n, text in enumerate(words * 3)]
    monkeypatch.setattr(indexing, "SHARD", 24)
    _, whole = make_index(tmp_path / "whole", tasks)
    library = write_lines(tmp_path / "library.jsonl", tasks)
    command = [sys.executable, "-c", KILLED, str(library), str(tmp_path / "out"), str(cache)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as job:
        for line in job.stdout:
            if int(line.split()[1]) > 80:
                os.kill(job.pid, signal.SIGKILL)
                break
    state = json.loads((tmp_path / "out" / ".checkpoint" / "state.json").read_text())["state"]
    assert 24 <= state["done"] < len(tasks)
    assert not (tmp_path / "out" / "index.tar").exists()  # nothing half-written
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=200)
    assert (tmp_path / "out" / "index.tar").read_bytes() == whole.read_bytes()


def test_a_cancelled_job_stops_within_a_batch(write_lines, landscape, cache, tmp_path):
    library = write_lines(tmp_path / "library.jsonl", landscape)
    ctx = LocalContext(tmp_path / "out", inputs={LIBRARY: library}, cache=cache)
    ctx.cancelled = True
    with pytest.raises(Cancelled):
        index(IndexParams(library=LIBRARY), ctx)
    ctx.release()
    assert ctx.artifacts == ()


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "params", "said"),
    [
        pytest.param([("a", "Sort."), ("a", "Add.")], {}, "'a' is also at", id="duplicate-ids"),
        pytest.param([("a", " ")], {}, "line 1: instruction 1 of 1 is empty", id="empty-instruction"),
        pytest.param([("a", "Sort.")], {"update": "merge", "remove": ["zz"]}, "remove names .*zz", id="remove-unknown"),
        pytest.param([("a", "Sort.")], {"update": "merge", "remove": ["a"]}, "remove names|in library and in remove",
                     id="remove-what-is-added"),
        pytest.param([("a", "Sort.")], {"update": "merge", "refine": "raw"}, "set refine to names",
                     id="other-refinement"),
        pytest.param([("a", "Sort.")], {"update": "merge", "original_task_only": False},
                     "set original_task_only to True", id="other-templates"),
        pytest.param([("a", "Sort.")], {"backend": "onnx"}, "mixed encoders: .*backend .*, this job has onnx",
                     id="other-backend"),
        pytest.param([("a", "Sort.")], {"max_tokens": 32}, "mixed encoders: .*max_tokens 256", id="other-max-tokens"),
    ],
)  # fmt: skip
def test_bad_libraries_leave_nothing_and_load_nothing(
    make_index, landscape, task, context, write_lines, tmp_path, monkeypatch, tasks, params, said
):
    _, base = make_index(tmp_path / "base", landscape)
    monkeypatch.setattr(encoders, "load", lambda *_: pytest.fail("the encoder was loaded"))
    library = write_lines(tmp_path / "library.jsonl", [task(*each) for each in tasks])
    ctx = context(tmp_path / "out", {LIBRARY: library, BASE: base})
    with pytest.raises(InvalidInput, match=said):
        index(IndexParams(library=LIBRARY, base_index=BASE, **params), ctx)
    ctx.release()
    assert ctx.artifacts == ()
    assert not [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]


def repacked(path, out, **manifest):
    """An index.tar whose manifest says something else."""
    with tarfile.open(path) as source, tarfile.open(out, "w") as target:
        for member in source:
            data = source.extractfile(member).read()
            if member.name == "manifest.json":
                data = json.dumps({**json.loads(data), **manifest}).encode()
            member.size = len(data)
            target.addfile(member, __import__("io").BytesIO(data))
    return out


def test_a_base_of_another_encoder_is_refused_before_one_loads(make_index, landscape, tmp_path, monkeypatch):
    _, base = make_index(tmp_path / "base", landscape)
    encoder = json.loads((opened(base, tmp_path / "u").folder / "manifest.json").read_text())["encoder"]
    other = repacked(base, tmp_path / "other.tar", encoder={**encoder, "digest": "0" * 64})
    monkeypatch.setattr(encoders, "load", lambda *_: pytest.fail("the encoder was loaded"))
    with pytest.raises(
        InvalidInput, match="mixed encoders: base_index was made with an encoder of digest 000000000000"
    ):
        make_index(tmp_path / "next", landscape, {BASE: other}, base_index=BASE)


def test_an_index_of_another_version_is_refused(make_index, landscape, tmp_path):
    _, base = make_index(tmp_path / "base", landscape)
    other = repacked(base, tmp_path / "other.tar", format_version=7)
    with pytest.raises(InvalidInput, match="format version 7; this Tenfold reads version 2: index the library again"):
        make_index(tmp_path / "next", landscape, {BASE: other}, base_index=BASE)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"format_version": 7}, "format version 7; this Tenfold reads version 2", id="version"),
        pytest.param({"encoder": {"ref": "builtin:minilm", "digest": "0" * 64, "max_tokens": 256, "backend": "torch"}},
                     "mixed encoders: the index was made with builtin:minilm of digest 000000000000", id="encoder"),
    ],
)  # fmt: skip
def test_a_query_of_an_index_that_this_worker_cannot_answer_is_refused(
    make_index, landscape, context, tmp_path, monkeypatch, changed, said
):
    _, base = make_index(tmp_path / "base", landscape)
    ctx = context(tmp_path / "q", {BASE: repacked(base, tmp_path / "other.tar", **changed)})
    monkeypatch.setattr(encoders, "load", lambda *_: pytest.fail("the encoder was loaded"))
    with pytest.raises(InvalidInput, match=said):
        query(QueryParams(index=BASE, instructions=["Write."], k=1), ctx)
    ctx.release()
    assert ctx.artifacts == ()


@pytest.mark.parametrize("data", [pytest.param(b"no tar", id="text"), pytest.param(b"\0" * 10240, id="empty-tar")])
def test_what_is_no_index_is_refused(make_index, landscape, tmp_path, data):
    (tmp_path / "other.tar").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"is no index: .*give the index.tar"):
        make_index(tmp_path / "next", landscape, {BASE: tmp_path / "other.tar"}, base_index=BASE)


def test_bfloat16_is_refused_where_the_processor_lacks_it(make_index, landscape, tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "can_run", lambda backend: backend != "openvino-bf16")
    with pytest.raises(InvalidInput, match="backend openvino-bf16: this processor doesn't compute in bfloat16"):
        make_index(tmp_path, landscape, backend="openvino-bf16", max_tokens=64)  # none that is loaded already


@pytest.mark.skipif(not can_run("torch"), reason="no torch")
def test_back_ends_can_be_chosen(make_index, landscape, tmp_path):
    result, path = make_index(tmp_path, landscape, backend="torch")
    assert result.backend == "torch"
    other = opened(make_index(tmp_path / "best", landscape)[1], tmp_path / "u2")
    found = opened(path, tmp_path / "u1")
    assert (found.vectors.astype(np.float32) * other.vectors.astype(np.float32)).sum(axis=1).min() >= 0.999


def test_an_encoder_that_came_as_a_file_travels_with_its_index(make_index, context, task, minilm, tmp_path):
    packed, tasks = tmp_path / "minilm.tar", [task("a", "Sort the numbers."), task("b", "Write a poem.")]
    with tarfile.open(packed, "w") as tar:
        tar.add(minilm, "minilm")
    result, path = make_index(tmp_path / "own", tasks, {ENCODER: packed}, encoder=ENCODER)
    _, usual = make_index(tmp_path / "usual", tasks)
    found, other = opened(path, tmp_path / "u1"), opened(usual, tmp_path / "u2")
    assert result.encoder == other.manifest["encoder"]["digest"]
    assert np.array_equal(found.vectors, other.vectors)
    ctx = context(tmp_path / "q", {BASE: path})  # the upload is gone
    assert query(QueryParams(index=BASE, instructions=["Order numbers."], k=1), ctx).results[0].task_id == "a"
    ctx.close()


def test_what_is_no_encoder_is_refused(make_index, landscape, tmp_path):
    (tmp_path / "no.tar").write_bytes(b"no tar at all")
    with pytest.raises(InvalidInput, match=r"is no packed folder; pack the encoder's folder as \.tar"):
        make_index(tmp_path / "i", landscape, {ENCODER: tmp_path / "no.tar"}, encoder=ENCODER)


def test_an_index_stays_open_in_the_process(make_index, landscape, tmp_path):
    folder = opened(make_index(tmp_path, landscape)[1], tmp_path / "u").folder
    assert open_folder(folder, "x") is open_folder(folder, "x")
