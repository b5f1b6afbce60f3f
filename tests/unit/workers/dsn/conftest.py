"""The colour world's shipped model, contexts with a key, small evaluations."""

import json
import os
from pathlib import Path

import pytest
import torch

from shared.data.builtin import shipped
from shared.jobs.catalog.dsn import EvaluateParams
from shared.jobs.context import JobContext
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.llm.local import load_model
from shared.settings import Settings
from workers.dsn.colours.world import World, goals
from workers.dsn.conversation import Chat
from workers.dsn.phrases import LOSS_PHRASES

REPOSITORY = Path(__file__).parents[4]
AUTHORISATION = {"owner": "lab", "purpose": "regression test", "ticket": "T-1", "expires": "2999-12-31"}
JUDGES = [
    {"name": "keyword", "type": "keyword"},
    {"name": "nli", "type": "nli", "model": "builtin:colours-nli"},
    {"name": "exact", "type": "exact"},
]
SECRET = "5a" * 32


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real_labels():
    """Real human labels; tests that need them are skipped where they are absent."""
    root = Path(os.environ.get("TENFOLD_REAL_DATA") or REPOSITORY.parent / "shared" / "data")
    file = root / "dsn" / "xstest_judge_labels.csv"
    if not file.is_file():
        pytest.skip(f"no real labels at {file}; set TENFOLD_REAL_DATA")
    return file


@pytest.fixture(scope="session")
def colours_folder(tmp_path_factory):
    return shipped("colours", tmp_path_factory.mktemp("builtin"))


@pytest.fixture(scope="session")
def loaded(tmp_path_factory):
    """The shipped stand-in."""
    found = load_model(Ref("builtin:colours"), LocalContext(tmp_path_factory.mktemp("ctx")), Settings())
    found.model.requires_grad_(False)
    return found


@pytest.fixture(scope="session")
def chat(loaded):
    return Chat(loaded.tokenizer)


@pytest.fixture(scope="session")
def world():
    return World()


@pytest.fixture(scope="session")
def restricted():
    return goals(restricted=True)


@pytest.fixture(scope="session")
def keywords(loaded):
    return [loaded.tokenizer(phrase, add_special_tokens=False)["input_ids"] for phrase in LOSS_PHRASES]


@pytest.fixture
def key(tmp_path, monkeypatch):
    """The operator's key, set for this test."""
    file = tmp_path / "operator.key"
    file.write_text(SECRET)
    monkeypatch.setenv("TENFOLD_REDTEAM_KEY", str(file))
    monkeypatch.setenv("TENFOLD_DATA", str(tmp_path / "data"))
    return file


@pytest.fixture
def no_key(tmp_path, monkeypatch):
    monkeypatch.delenv("TENFOLD_REDTEAM_KEY", raising=False)
    monkeypatch.setenv("TENFOLD_DATA", str(tmp_path / "data"))


def small(**changes):
    """A small evaluation of the stand-in: seconds."""
    params = {
        "model": "allowed:colours", "behaviours": "builtin:colours", "authorisation": AUTHORISATION, "judges": JUDGES,
        "suffix_init": "! ! ! ! ! !", "n_steps": 4, "batch_size": 24, "topk": 48, "n_train": 3, "n_test": 4,
        "n_benign": 3, "test_steps": 2, "eval_max_new_tokens": 32,
        "defences": {"smoothllm": {"copies": 2, "kind": "token"}, "erase_and_check": {"d": 2}},
    }  # fmt: skip
    return EvaluateParams.model_validate_json(json.dumps(params | changes))


@pytest.fixture(name="small", scope="session")
def small_fixture():
    return small


@pytest.fixture(scope="session")
def authorisation():
    return AUTHORISATION


class Killed(BaseException):
    """A test's kill: nothing catches it."""


@pytest.fixture
def run_and_kill():
    """Run a job, killing it at the n-th checkpoint; gives the context back for what follows."""

    def run(entry, params, make_context, after):
        ctx: JobContext = make_context()
        saves = 0
        save = ctx.checkpoint

        def checkpoint(state, blobs=None):
            nonlocal saves
            save(state, blobs)
            saves += 1
            if saves == after:
                raise Killed

        ctx.checkpoint = checkpoint
        with pytest.raises(Killed):
            entry(params, ctx)
        ctx.release()

    return run
