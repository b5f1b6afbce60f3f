"""From every point of a figure to the run, month, agent and exact prompt."""

import json
import tarfile

import pytest

from shared.jobs.catalog.govsim import AnalyseParams
from shared.jobs.local import LocalContext
from tests.unit.workers.govsim.scripted import society_script, talk
from workers.govsim.jobs import analyse

SOURCES = ["file:" + "a" * 64, "file:" + "b" * 64]
RUN_FIGURES = ("runs_stock", "runs_harvest")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job of three talking runs: two that collapse in month 1, one that lasts."""
    folder = tmp_path_factory.mktemp("job")
    ctx = LocalContext(folder)
    script = society_script(units=lambda call: 10 if call.key.startswith("run1/") else 20, limit="10 tons")
    talk(ctx, script, runs=3, months=3)
    ctx.close()
    return folder


def figure(folder, name):
    return json.loads((folder / f"{name}.plotly.json").read_text())


def points(folder, name):
    """(x, y, customdata) of every trace that has links."""
    return [
        list(zip(trace["x"], trace["y"], trace["customdata"], strict=True))
        for trace in figure(folder, name)["data"]
        if "customdata" in trace
    ]


def names(link):
    return [run["run"] for run in link["runs"]]


@pytest.mark.parametrize(
    "name",
    ["stock", "survival", "collapsed", "survival_time", "harvest", "gini", "over_usage", *RUN_FIGURES],
)
def test_every_point_of_every_figure_leads_to_runs_and_stored_prompts(job, name):
    keys = {json.loads(line)["key"] for line in (job / "transcript.jsonl").read_text().splitlines()}
    traces = points(job, name)
    assert traces
    for trace in traces:
        for _, _, link in trace:
            assert set(link) == {"group", "runs", "month", "agent", "keys"}
            assert {key["key"] for key in link["keys"]} <= keys
            assert {key["source"] for key in link["keys"]} <= {None}
            assert bool(link["keys"]) == bool(link["runs"])


def test_a_point_of_a_runs_panel_leads_to_the_one_prompt_it_came_of(job):
    transcript = {
        record["key"]: record for record in map(json.loads, (job / "transcript.jsonl").read_text().splitlines())
    }
    panels = [trace for trace in points(job, "runs_harvest") if trace[0][2]["agent"] is not None]
    assert len(panels) == 3 * 5
    for trace in panels:
        for month, _, link in trace:
            (key,) = link["keys"]
            record = transcript[key["key"]]
            (run,) = link["runs"]
            assert (str(record["run"]), record["month"], record["agent"]) == (run["run"], month, link["agent"])
            assert record["kind"] == "harvest"


def test_the_limit_panel_leads_to_the_question_for_the_limit(job):
    limits = [trace for trace in points(job, "runs_harvest") if trace[0][2]["agent"] is None]
    assert [link["keys"] for _, _, link in limits[1]] == [
        [{"source": None, "key": f"run1/month{month}/limit"}] for month in (1, 2, 3)
    ]


def test_a_step_of_the_survival_curve_names_the_runs_that_were_lost_there(job):
    (curve,) = points(job, "survival")
    assert [names(link) for _, _, link in curve] == [[], ["0", "2"], [], []]


def test_a_mean_over_runs_names_those_that_played_the_month(job):
    (curve,) = points(job, "stock")
    assert [names(link) for _, _, link in curve] == [["0", "1", "2"]] * 2 + [["1"]] * 4


def test_scripted_runs_are_named_and_have_no_prompts(tmp_path):
    from shared.jobs.catalog.govsim import SimulateParams
    from workers.govsim.jobs import simulate

    ctx = LocalContext(tmp_path)
    simulate(SimulateParams(runs=50), ctx)
    ctx.close()
    (curve,) = points(tmp_path, "gini")
    assert (len(curve[0][2]["runs"]), curve[0][2]["keys"]) == (40, [])
    assert not (tmp_path / "runs_stock.plotly.json").exists()


def test_an_over_usage_bar_leads_to_the_harvests_above_the_threshold(job):
    (first, *_), *_ = points(job, "over_usage")
    keys = [key["key"] for key in first[2]["keys"]]
    assert keys == [f"run{run}/month1/harvest/agent{agent}" for run in (0, 2) for agent in range(5)]


def test_a_survival_bar_leads_to_the_last_harvests(job):
    ((_, _, link),) = points(job, "survival_time")[0]
    months = {key["key"].rpartition("/harvest")[0] for key in link["keys"]}
    assert months == {"run0/month1", "run1/month3", "run2/month1"}


def test_an_analysis_of_two_jobs_tells_their_runs_and_prompts_apart(job, tmp_path):
    ctx = LocalContext(tmp_path, inputs=dict.fromkeys(SOURCES, job / "runs.jsonl"))
    analyse(AnalyseParams(sources=SOURCES), ctx)
    ctx.close()
    for traces, own in zip(points(tmp_path, "harvest"), points(job, "harvest"), strict=True):
        for (_, _, link), (_, _, single) in zip(traces, own, strict=True):
            for name in ("runs", "keys"):
                expected = [{**one, "source": source} for source in SOURCES for one in single[name]]
                assert link[name] == expected
                assert len({tuple(one.values()) for one in link[name]}) == len(expected)


def test_what_enters_no_mean_stands_behind_no_point_of_a_mean(tmp_path):
    script = society_script()
    ctx = LocalContext(tmp_path)
    talk(ctx, lambda call: "Hm." if call.key.startswith("run1/") else script(call), runs=3, months=1)
    ctx.close()
    for name in ("stock", "harvest", "gini", "survival_time", "over_usage"):
        assert all(names(link) == ["0", "2"] for trace in points(tmp_path, name) for _, _, link in trace)
    (trace, *_) = points(tmp_path, "runs_stock")[1:2]
    assert names(trace[0][2]) == ["1"]  # its own figure shows it


def test_a_talking_job_leaves_the_log_of_every_run(tmp_path):
    ctx = LocalContext(tmp_path)
    talk(ctx, society_script(utterances=1, insights=1), runs=45, months=1)
    ctx.close()
    with tarfile.open(tmp_path / "log_env.tar") as tar:
        assert len(tar.getnames()) == 45
