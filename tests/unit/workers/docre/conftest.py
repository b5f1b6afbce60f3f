"""Documents, references and contexts for tests, and where the real documents lie."""

import json
import shutil

import pytest

from shared.jobs.local import LocalContext
from shared.relations.documents import document_of, read_documents
from workers.runtime.threads import fix_threads

A, B, C, D, E = (f"file:{letter * 64}" for letter in "abcde")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As a worker computes."""
    with fix_threads(1):
        yield


@pytest.fixture(scope="session")
def real(real_data_root):
    folder = real_data_root / "docre_transfer"
    if not folder.is_dir():
        pytest.skip(f"no real documents at {folder}; set TENFOLD_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def apertium():
    """Tests that translate: the Debian packages apertium and apertium-eng-spa."""
    from shared.jobs.errors import InvalidInput
    from workers.docre.translators.apertium import ApertiumTranslator

    if shutil.which("apertium") is None:
        pytest.skip("apertium is not installed")
    try:
        return ApertiumTranslator("eng", "spa", 60)
    except InvalidInput as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(tmp_path, cache):
    """Run a kind's entry function in a folder of its own: `run(function, params, name, inputs)`."""

    def run(function, params, name="out", inputs=None, finish=True):
        ctx = LocalContext(tmp_path / name, inputs={**(inputs or {})}, cache=cache)
        try:
            result = function(params, ctx)
        finally:
            ctx.release()
        if finish:
            ctx.close()
        return result

    return run


@pytest.fixture
def out(tmp_path):
    """An artifact as JSON or bytes: `out("out", "report.json")`."""

    def read(folder, name):
        path = tmp_path / folder / name
        return json.loads(path.read_text()) if name.endswith(".json") else path.read_bytes()

    return read


def document(title="Ada", sentences=("Ada was born in Lund .", "She sings ."), mentions=None, labels=()):
    """mentions: per entity a list of (sentence, start, end, type)."""
    sents = [sentence.split() for sentence in sentences]
    mentions = mentions if mentions is not None else [[(0, 0, 1, "PER"), (1, 0, 1, "PER")], [(0, 4, 5, "LOC")]]
    entities = [
        [{"name": " ".join(sents[s][a:b]), "sent_id": s, "pos": [a, b], "type": kind} for s, a, b, kind in entity]
        for entity in mentions
    ]
    own = [{"h": h, "t": t, "r": r, "evidence": list(e)} for h, t, r, e in labels]
    return document_of({"title": title, "sents": sents, "vertexSet": entities, "labels": own})


@pytest.fixture(scope="session", name="document")
def document_fixture():
    return document


@pytest.fixture(scope="session")
def test_documents(real):
    return read_documents(real / "redocred_test.json", "test")
