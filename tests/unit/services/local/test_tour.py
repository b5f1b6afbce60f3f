import io

import pytest
from rich.console import Console

from services.local.demo import Tour
from services.local.tour import Row, Stop, TourFailed, dsn, govsim, stops
from tests.unit.services.api_server import ID, Answer, job

PATH = f"/v1/jobs/{ID}"


@pytest.fixture
def out():
    return Console(file=io.StringIO(), width=200)


def one_job(tenfold, follow):
    (done,) = follow([tenfold.submit("silu.properties")])
    return [Row("silu", "facts", str(done.result["facts"]))]


STOP = Stop("silu", "Facts of SiLU", one_job)


def test_every_module_of_the_folder_is_a_stop():
    assert govsim.STOP in stops()
    assert [stop.order for stop in stops()] == sorted(stop.order for stop in stops())


def test_the_tour_shows_what_its_jobs_measured(server, tenfold, out):
    progress = {"done": 1, "total": 4, "unit": "facts", "message": ""}
    server.on("POST", "/v1/jobs", Answer(job(), 202))
    server.on("GET", PATH, job(state="running", progress=progress), job(state="succeeded", result={"facts": 17}))
    Tour(tenfold, out).run([STOP])
    shown = out.file.getvalue()
    assert "Facts of SiLU" in shown
    assert "17" in shown


def test_a_failed_job_ends_the_tour_with_its_reason(server, tenfold, out):
    server.on("POST", "/v1/jobs", Answer(job(), 202))
    server.on("GET", PATH, job(state="failed", error={"type": "timeout", "message": "took too long"}))
    with pytest.raises(TourFailed, match=rf"govsim\.simulate \({ID}\) failed: took too long"):
        Tour(tenfold, out).run([STOP])


def test_an_interrupted_tour_cancels_what_it_has_begun(server, tenfold, out):
    server.on("POST", "/v1/jobs", Answer(job(), 202))
    server.on("GET", PATH, job(state="running"), Answer({"status": 500, "title": "broken"}, 500))
    server.on("POST", f"{PATH}/cancel", Answer(job(state="cancelled"), 202))
    with pytest.raises(Exception, match="broken"):
        Tour(tenfold, out).run([STOP])
    assert len(server.calls("POST", f"{PATH}/cancel")) == 1


def test_govsims_stop_submits_its_analysis_while_its_sources_are_unfinished(server, tenfold, monkeypatch):
    monkeypatch.delenv("TENFOLD_REAL_DATA", raising=False)
    ids = ["A", "B", "C", "D", "E", "F"]
    server.on("POST", "/v1/jobs", *(Answer(job(id=name), 202) for name in ids))
    group = {
        "group": "fishery default | greedy ×5", "survival_time": {"mean": 12.0, "ci95": 0.25},
        "gain": {"mean": 39.2, "ci95": 3.4e-15}, "equality": {"mean": None, "ci95": None},
    }  # fmt: skip
    single = group | {"group": "fishery default | threshold ×5", "gain": {"mean": 120.0, "ci95": None}}

    def follow(jobs):
        assert [found.id for found in jobs] == ids
        outcome = {"state": "succeeded", "result": {"groups": [group, single]}}
        return [found.model_copy(update=outcome) for found in jobs]

    rows = govsim.run(tenfold, follow)
    *simulations, analysis = [asked.json for asked in server.asked]
    assert [body["kind"] for body in simulations] == ["govsim.simulate"] * 5
    assert analysis == {
        "kind": "govsim.analyse", "name": "the five societies",
        "params": {"sources": ["job:A", "job:B", "job:C", "job:D", "job:E"]},
    }  # fmt: skip
    assert rows[:3] == [
        Row("greedy ×5", "survival time, months", "12 ± 0.25"),
        Row("greedy ×5", "gain, units per agent", "39.2 ± 0"),
        Row("greedy ×5", "equality", "undefined"),
    ]
    assert rows[4] == Row("threshold ×5", "gain, units per agent", "120")


def test_dsns_stop_says_so_where_the_switch_is_off(server, tenfold):
    server.on("GET", "/v1/kinds", {"items": []})
    assert dsn.STOP.run(tenfold, lambda jobs: []) == [Row("stand-in", "skipped", "this cluster runs without --redteam")]


def test_dsns_stop_allows_the_stand_in_and_attacks_nothing_else(server, tenfold):
    kind = {"kind": "dsn.evaluate", "version": 1, "method": "dsn", "pool": "gpu", "summary": "", "params_schema": {},
            "result_schema": {}}  # fmt: skip
    rate = {"rate": 0.5, "low": 0.3, "high": 0.7}
    result = {"asr": {arm: {"test": {"exact": rate}} for arm in dsn.ARMS}, "counts": {"answers": 9},
              "defences": {"none": {"asr": {"dsn": rate}}}}  # fmt: skip
    server.on("GET", "/v1/kinds", {"items": [kind]})
    server.on("PUT", "/v1/redteam/allowed/colours", {"name": "colours", "ref": "builtin:colours"})
    server.on("POST", "/v1/jobs", Answer(job(), 202))

    def follow(jobs):
        return [jobs[0].model_copy(update={"result": result, "timings": {"run": 2.0}})]

    rows = dsn.STOP.run(tenfold, follow)
    assert server.calls("POST", "/v1/jobs")[0].json["params"]["model"] == "allowed:colours"
    assert rows[0].value == "exact 0.50 [0.30, 0.70]"
    assert rows[-1].value == "9 in 2.0 s"


def test_govsims_stop_trains_a_clone_where_there_are_decisions(server, tenfold, monkeypatch, tmp_path):
    (tmp_path / "govsim").mkdir()
    (tmp_path / "govsim" / "harvest_replies.jsonl").write_text("{}\n")
    monkeypatch.setenv("TENFOLD_REAL_DATA", str(tmp_path))
    server.on("POST", "/v1/jobs", *(Answer(job(id=name), 202) for name in "ABCDEFGHI"))
    server.on("POST", "/v1/files", Answer({"ref": f"file:{'a' * 64}", "sha256": "a" * 64, "bytes": 3}, 201))
    lasted = {"survival_time": {"mean": 9.0, "ci95": 1.0}, "gain": {"mean": 60.0, "ci95": 2.0},
              "equality": {"mean": 0.9, "ci95": None}}  # fmt: skip

    def follow(jobs):
        results = [{}] * 5 + [{"groups": []}, {}, lasted, lasted]
        names = [*"ABCDEFG", "clone", "clone, universalization"]
        return [
            found.model_copy(update={"state": "succeeded", "result": result, "name": name})
            for found, result, name in zip(jobs, results, names, strict=True)
        ]

    rows = govsim.run(tenfold, follow)
    assert rows[0] == Row("clone", "survival time, months", "9 ± 1")
    assert rows[3] == Row("clone, universalization", "survival time, months", "9 ± 1")
    training, *societies = [asked.json for asked in server.calls("POST", "/v1/jobs")][6:]
    assert training["params"] == {"replies": f"file:{'a' * 64}"}
    assert [body["params"]["universalization"] for body in societies] == [False, True]
    assert {body["params"]["policies"]["model"] for body in societies} == {"job:G/model.tar"}
