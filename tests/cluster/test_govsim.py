"""GOVSIM through all of it: HTTP, queue, Ray agents, metrics, figures, artifacts; and every refusal on the way in."""

import json

import pytest

from services.client import Refused
from tests.cluster.embedded import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def ready(cluster):
    eventually(lambda: cluster.is_healthy("gateway", "redis", "worker-sim", "worker-cpu"))


@pytest.fixture
def real_data(real_data_root):
    folder = real_data_root / "govsim"
    if not folder.is_dir():
        pytest.skip(f"no real runs at {folder}; set TENFOLD_REAL_DATA")
    return folder


def read(tenfold, job, name, folder):
    return tenfold.download(job.id, name, folder / name).read_text()


def test_a_study_runs_from_http_to_figures(tenfold, tmp_path):
    job = tenfold.wait(tenfold.submit("govsim.simulate", {"runs": 7, "policies": {"type": "greedy"}}).id, timeout_s=90)
    assert job.state == "succeeded", job.error
    assert job.result["survival_time"]["mean"] == 1
    assert len(read(tenfold, job, "runs.jsonl", tmp_path).splitlines()) == 7
    figures = [artifact.name for artifact in job.artifacts if artifact.name.endswith(".plotly.json")]
    assert len(figures) >= 5
    for name in figures:
        assert {"data", "layout"} <= set(json.loads(read(tenfold, job, name, tmp_path)))


def test_the_same_seed_gives_the_same_bytes_whatever_the_jobs_name(tenfold):
    params = {"runs": 30, "policies": {"type": "random", "low": 0, "high": 20}}
    first, second = (tenfold.wait(tenfold.submit("govsim.simulate", params, name=n).id, timeout_s=90) for n in "ab")
    clocked = {"log.txt", "timings.jsonl"}
    digests = [{a.name: a.sha256 for a in job.artifacts if a.name not in clocked} for job in (first, second)]
    assert digests[0] == digests[1]
    assert first.result == second.result


def test_the_published_runs_have_their_expected_metrics(tenfold, real_data, tmp_path):
    runs = tenfold.upload(real_data / "runs.jsonl").ref
    replies = tenfold.upload(real_data / "harvest_replies.jsonl").ref
    submitted = tenfold.submit("govsim.analyse", {"sources": [runs], "replies": replies})
    job = tenfold.wait(submitted.id, timeout_s=90)
    assert job.state == "succeeded", job.error
    lines = {line["run"]: line for line in map(json.loads, read(tenfold, job, "runs.jsonl", tmp_path).splitlines())}
    expected = json.loads((real_data / "expected_metrics.json").read_text())["runs"]
    assert len(lines) == len(expected) == 36
    for wanted in expected:
        line = lines[wanted["run"]]
        assert line["survival_time"] == wanted["survival_time"]
        assert line["gains"] == list(wanted["gains"].values())
        for ours, theirs in MEASURES.items():
            assert line[ours] == pytest.approx(wanted[theirs], abs=1e-6), (wanted["run"], ours)
    assert lines["vivid-galaxy-17"]["invalid"]


MEASURES = {
    "gain": "mean_gain",
    "efficiency": "efficiency",
    "equality": "equality",
    "over_usage": "over_usage",
    "over_usage_published": "over_usage_published_convention",
}


@pytest.mark.parametrize(
    ("params", "field"),
    [
        pytest.param({"policies": [{"type": "threshold"}] * 3}, "policies", id="wrong-number-of-policies"),
        pytest.param({"scenario": "forest"}, "scenario", id="unknown-scenario"),
        pytest.param({"start": 101}, "start", id="start-above-capacity"),
        pytest.param({"start": 3}, "collapse_below", id="collapse-bound-above-start"),
        pytest.param({"policies": {"type": "replay", "demands": [3, -1]}}, "demands", id="negative-replay-demand"),
        pytest.param({"policies": {"type": "replay", "demands": []}}, "demands", id="empty-replay-demands"),
        pytest.param({"experiment": "newcomer", "newcomer_month": 15}, "newcomer_month", id="newcomer-after-the-end"),
    ],
)
def test_bad_params_are_refused_at_submit_with_field_and_remedy(tenfold, params, field):
    with pytest.raises(Refused) as refusal:
        tenfold.submit("govsim.simulate", params)
    assert refusal.value.problem.status == 422
    errors = refusal.value.problem.errors
    assert [error for error in errors if field in [str(part) for part in error.loc]], errors
    assert all(error.msg for error in errors)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('{"run": "a", "experiment": "e", "names": ["A"], "max_rounds": 12}\n', "log", id="missing-key"),
        pytest.param('{"run": "a", "experiment": "e", "names": ["A"], "max_rou', "line 1", id="cut-off"),
    ],
)
def test_a_bad_log_ends_the_job_as_invalid_input_with_log_and_manifest_only(tenfold, tmp_path, text, says):
    (tmp_path / "bad.jsonl").write_text(text)
    job = tenfold.submit("govsim.analyse", {"sources": [tenfold.upload(tmp_path / "bad.jsonl").ref]})
    ended = tenfold.wait(job.id, timeout_s=60)
    assert (ended.state, ended.error.type, ended.error.retryable) == ("failed", "invalid_input", False)
    assert says in ended.error.message
    assert {artifact.name for artifact in ended.artifacts} == {"log.txt", "manifest.json"}
