"""The entry functions as a person would use them, with no cluster."""

import csv
import json
import time

import pytest

from shared.jobs.catalog.govsim import AnalyseParams, Metrics, SimulateParams
from shared.jobs.errors import Cancelled
from shared.jobs.local import LocalContext
from workers.govsim import report, simulation
from workers.govsim.jobs import analyse, simulate

ARTIFACTS = {
    "collapsed.plotly.json", "curves.jsonl", "gini.plotly.json", "harvest.plotly.json", "log_env.tar",
    "over_usage.plotly.json", "runs.jsonl", "stock.plotly.json", "summary.csv", "survival.plotly.json",
    "survival_time.plotly.json", "timings.jsonl",
}  # fmt: skip

TOUR = {  # societies whose fate one can work out by hand
    "greedy collapses in month 1": {"policies": {"type": "greedy"}},
    "threshold sustains": {"policies": {"type": "threshold"}},
    "one defector among four": {"policies": [*[{"type": "threshold"}] * 4, {"type": "fixed", "quantity": 40}]},
    "agreement recovers": {"policies": {"type": "replay", "demands": [15, 5]}},
    "tit-for-tat spirals down": {"policies": [*[{"type": "tit_for_tat"}] * 4, {"type": "fixed", "quantity": 12}]},
}


def run(folder, **params):
    events = []
    ctx = LocalContext(folder, say=lambda event, data: events.append((event, data)))
    result = simulate(SimulateParams(**params), ctx)
    ctx.close()
    return result, ctx, events


def test_a_simulation_gives_metrics_runs_and_artifacts(tmp_path):
    result, ctx, _ = run(tmp_path, runs=3)
    assert {artifact.name for artifact in ctx.artifacts} == ARTIFACTS
    assert (result.survival_time.mean, result.survival_rate.mean, result.gain.mean) == (12, 1, 120)
    assert (result.survival_time.std, result.survival_time.ci95) == (0, 0)
    assert len(result.runs) == 3
    assert result.runs[0].pool == [[100, 50]] * 12
    assert result.runs[0].granted == result.runs[0].demanded == [[10] * 5] * 12


def test_one_run_has_no_sample_deviation_and_no_interval(tmp_path):
    result, _, _ = run(tmp_path, runs=1)
    assert result.gain.model_dump() == {"mean": 120, "std": None, "std_population": 0, "ci95": None}


def test_what_is_undefined_is_null_throughout(tmp_path):
    result, _, _ = run(tmp_path, policies={"type": "fixed", "quantity": 0})
    assert result.equality.model_dump() == {"mean": None, "std": None, "std_population": None, "ci95": None}
    assert result.runs[0].equality is None


def test_progress_counts_runs_and_the_curve_is_the_mean_stock(tmp_path):
    _, _, events = run(tmp_path, runs=4)
    assert [data for event, data in events if event == "progress"] == [
        {"done": done, "total": 4, "unit": "runs", "message": ""} for done in (0, 4)
    ]
    curve = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert curve == [{"name": "stock_after_harvest", "step": month, "value": 50.0} for month in range(1, 13)]


def test_the_summary_is_the_result_as_a_table(tmp_path):
    result, _, _ = run(tmp_path, runs=50, policies={"type": "random", "low": 0, "high": 20})
    table = {row["metric"]: row for row in csv.DictReader((tmp_path / "summary.csv").read_text().splitlines())}
    assert set(table) == set(Metrics.model_fields)
    for name, row in table.items():
        assert (row["group"], row["runs"]) == ("fishery default | random 0 20 ×5", "50")
        for statistic, value in getattr(result, name).model_dump().items():
            assert float(row[statistic]) == value


@pytest.mark.parametrize(
    ("params", "shown"),
    [
        pytest.param({"runs": 60}, 40, id="forty-of-sixty"),
        pytest.param({"runs": 60, "months": 50, "agents": 20, "capacity": 400}, 7, id="as-many-as-fit"),
        pytest.param({"runs": 2, "months": 1_000, "agents": 100, "capacity": 10**6}, 0, id="none-fits"),
    ],
)
def test_a_result_stays_within_its_bound(tmp_path, params, shown):
    result, _, _ = run(tmp_path, **params)
    assert len(result.runs) == shown
    assert len(json.dumps(result.model_dump())) <= 64 * 1024
    assert sum(1 for _ in (tmp_path / "runs.jsonl").read_text().splitlines()) == params["runs"]


def test_the_first_runs_are_as_many_as_the_room_allows(tmp_path):
    run(tmp_path, runs=10)
    first = report.first_outcomes(tmp_path / "runs.jsonl", report.RunOutcome, 10**6)[0]
    size = report.bytes_of(first.model_dump())
    for fit in (0, 1, 5):
        assert len(report.first_outcomes(tmp_path / "runs.jsonl", report.RunOutcome, size * fit)) == fit


def test_a_cancelled_simulation_stops_within_a_month(tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "CHUNK_CELLS", 60 * 10)
    ctx = LocalContext(tmp_path)
    seen = []

    def say(event, data):
        seen.append(event)
        ctx.cancelled = len(seen) == 3

    ctx._say = say
    with pytest.raises(Cancelled):
        simulate(SimulateParams(runs=100), ctx)
    ctx._journals["runs.jsonl"].handle.close()
    assert seen == ["progress"] * 3
    assert ctx.artifacts == ()


def test_an_analysis_of_many_groups_stays_within_its_bound(tmp_path):
    run(tmp_path / "job", runs=1)
    line = (tmp_path / "job" / "runs.jsonl").read_text()
    source = "file:" + "a" * 64
    lines = [line.replace("fishery default", f"group {number}") for number in range(300)]
    (tmp_path / "many").write_text("".join(lines))
    ctx = LocalContext(tmp_path / "out", inputs={source: tmp_path / "many"})
    result = analyse(AnalyseParams(sources=[source]), ctx)
    ctx.close()
    assert len(json.dumps(result.model_dump())) <= 64 * 1024
    assert 0 < len(result.groups) < 300
    assert 0 < len(result.runs) <= 40
    assert len((tmp_path / "out" / "groups.jsonl").read_text().splitlines()) == 300


def test_the_tours_societies_show_what_the_paper_says_in_two_seconds(tmp_path):
    start = time.monotonic()
    results = {name: run(tmp_path / name, runs=20, **params)[0] for name, params in TOUR.items()}
    seconds = time.monotonic() - start
    assert {name: result.survival_time.mean for name, result in results.items()} == dict(
        zip(TOUR, [1, 12, 2, 12, 4], strict=True)
    )
    assert results["greedy collapses in month 1"].gain.mean == 20
    assert results["threshold sustains"].gain.mean == 120
    assert results["one defector among four"].efficiency.mean == pytest.approx(0.2)
    assert results["agreement recovers"].gain.mean == 70
    assert results["tit-for-tat spirals down"].efficiency.mean == pytest.approx(0.326667, abs=5e-7)
    assert seconds < 10  # 2 s on an idle machine


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"agents": 100, "capacity": 10**6, "runs": 200, "policies": {"type": "greedy"}}, id="wide"),
        pytest.param({"agents": 100, "capacity": 10**6, "months": 1_000, "runs": 20}, id="long"),
        pytest.param(
            {
                "agents": 100,
                "capacity": 10**6,
                "months": 20,
                "runs": 20,
                "order": "sequential",
                "policies": {"type": "random", "low": 0, "high": 2, "unit": "threshold"},
            },
            id="sequential",
        ),
    ],
)
def test_the_largest_societies_take_seconds(tmp_path, params):
    start = time.monotonic()
    run(tmp_path, **params)
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_a_hundred_thousand_runs_take_seconds_and_little_memory(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result, _, _ = run(tmp_path, runs=100_000, policies={"type": "random", "low": 0, "high": 20})
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert result.survival_time.mean == pytest.approx(5.325, abs=0.033)
    assert grown_mb < 600
