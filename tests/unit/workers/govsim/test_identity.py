"""Kill anywhere, cut anyhow: the same bytes."""

from pathlib import Path

import pytest

from shared.jobs.catalog.govsim import AnalyseParams, SimulateParams
from shared.jobs.errors import HandBack
from shared.jobs.local import LocalContext
from workers.govsim import analysis, simulation
from workers.govsim.jobs import analyse, simulate

SOCIETIES = [
    pytest.param({"policies": {"type": "random", "low": 0, "high": 20}}, id="random-lottery"),
    pytest.param({"policies": {"type": "random", "low": 0, "high": 25}, "order": "sequential"}, id="sequential"),
    pytest.param({"policies": {"type": "random", "low": 0, "high": 25}, "allocation": "proportional"}, id="shares"),
    pytest.param(
        {
            "experiment": "newcomer",
            "policies": [*[{"type": "tit_for_tat"}] * 4, {"type": "random", "low": 0, "high": 3, "unit": "threshold"}],
        },
        id="newcomer",
    ),
]
RUNS = 60
SOURCE = "file:" + "0" * 64


class Killed(LocalContext):
    """Stops dead after its n-th checkpoint, as a killed process would: nothing buffered reaches the disk."""

    def __init__(self, folder, after, **more):
        super().__init__(folder, **more)
        self.left = after

    def _save_checkpoint(self, state, blobs):
        super()._save_checkpoint(state, blobs)
        self.left -= 1
        if self.left == 0:
            raise HandBack("killed")

    def drop_buffers(self):
        for journal in self._journals.values():
            length = journal.path.stat().st_size
            journal.handle.close()
            with journal.path.open("ab") as handle:
                handle.truncate(length)


@pytest.fixture
def checkpoints(monkeypatch):
    """Checkpoint after every chunk, and cut runs into chunks of so many."""

    def cut(params, runs):
        monkeypatch.setattr(simulation, "CHECKPOINT_EVERY_S", 0.0)
        monkeypatch.setattr(simulation, "CHUNK_CELLS", runs * params.months * params.agents)

    return cut


def outputs(ctx, result):
    """Result and artifacts but for timings."""
    ctx.close()
    files = {path.name: path.read_bytes() for path in Path(ctx.folder).iterdir() if path.is_file()}
    files.pop("timings.jsonl")
    return result, files


def simulated(folder, params):
    ctx = LocalContext(folder)
    return outputs(ctx, simulate(params, ctx))


@pytest.mark.parametrize("society", SOCIETIES)
def test_the_size_of_chunks_changes_no_byte(tmp_path, checkpoints, society):
    params = SimulateParams(runs=RUNS, **society)
    expected = simulated(tmp_path / "whole", params)
    for runs in (1, 7, 59):
        checkpoints(params, runs)
        assert simulated(tmp_path / str(runs), params) == expected


@pytest.mark.parametrize("society", SOCIETIES)
def test_a_simulation_killed_after_any_checkpoint_resumes_to_the_same_bytes(tmp_path, checkpoints, society):
    params = SimulateParams(runs=RUNS, **society)
    expected = simulated(tmp_path / "whole", params)
    checkpoints(params, 13)
    for after in range(1, 6):  # 60 runs are 5 chunks
        folder = tmp_path / f"killed-{after}"
        ctx = Killed(folder, after)
        with pytest.raises(HandBack):
            simulate(params, ctx)
        ctx.drop_buffers()
        assert simulated(folder, params) == expected


def test_a_simulation_killed_again_and_again_gets_done(tmp_path, checkpoints):
    params = SimulateParams(runs=RUNS, policies={"type": "random", "low": 0, "high": 20})
    expected = simulated(tmp_path / "whole", params)
    checkpoints(params, 13)
    kills = 0
    while True:
        ctx = Killed(tmp_path / "often", 1)
        try:
            result = simulate(params, ctx)
        except HandBack:
            kills += 1
            ctx.drop_buffers()
            continue
        assert outputs(ctx, result) == expected
        assert kills == 5
        return


def test_a_resumed_simulation_does_not_repeat_what_was_saved(tmp_path, checkpoints):
    params = SimulateParams(runs=RUNS)
    checkpoints(params, 20)
    ctx = Killed(tmp_path, 2)
    with pytest.raises(HandBack):
        simulate(params, ctx)
    ctx.drop_buffers()
    seen = []
    ctx = LocalContext(tmp_path, say=lambda event, data: seen.append((event, data.get("done"))))
    outputs(ctx, simulate(params, ctx))
    assert [done for event, done in seen if event == "progress"] == [40, 60]


def test_an_analysis_killed_after_any_checkpoint_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    params = SimulateParams(runs=RUNS, policies={"type": "random", "low": 0, "high": 20})
    simulated(tmp_path / "runs", params)
    inputs = {SOURCE: tmp_path / "runs" / "runs.jsonl"}

    def analysed(folder):
        ctx = LocalContext(folder, inputs=inputs)
        return outputs(ctx, analyse(AnalyseParams(sources=[SOURCE]), ctx))

    expected = analysed(tmp_path / "whole")
    monkeypatch.setattr(analysis, "PORTION_RUNS", 13)
    assert analysed(tmp_path / "portions") == expected
    for after in range(1, 6):
        ctx = Killed(tmp_path / f"killed-{after}", after, inputs=inputs)
        with pytest.raises(HandBack):
            analyse(AnalyseParams(sources=[SOURCE]), ctx)
        ctx.drop_buffers()
        assert analysed(tmp_path / f"killed-{after}") == expected


def test_another_seed_gives_other_runs(tmp_path):
    society = {"runs": RUNS, "policies": {"type": "random", "low": 0, "high": 20}}
    one = simulated(tmp_path / "42", SimulateParams(**society))
    two = simulated(tmp_path / "43", SimulateParams(**society, seed=43))
    assert one[1]["runs.jsonl"] != two[1]["runs.jsonl"]


def test_more_runs_begin_with_the_same_ones(tmp_path):
    society = {"policies": {"type": "random", "low": 0, "high": 20}}
    few = simulated(tmp_path / "few", SimulateParams(runs=7, **society))[1]["runs.jsonl"]
    many = simulated(tmp_path / "many", SimulateParams(runs=20, **society))[1]["runs.jsonl"]
    assert many.startswith(few)
