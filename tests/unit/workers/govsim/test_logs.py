"""Reading and writing logs: what is accepted, what is rejected, what is refused, and that ours read like theirs."""

import copy
import io
import json
import tarfile
from pathlib import Path

import pytest

from shared.jobs.catalog.govsim import AnalyseParams, Metrics, RunOutcome, SimulateParams
from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from workers.govsim.jobs import analyse, simulate
from workers.govsim.log_env import KEYS, MAX_RECORDS, write_tar
from workers.govsim.simulation import made_runs

SOURCE, OTHER = "file:" + "a" * 64, "file:" + "b" * 64
JOB = "job:01JZZZZZZZZZZZZZZZZZZZZZZZ"


def harvests(month, before, grants, demands=None):
    after = before - sum(grants)
    return [
        {"agent_id": f"persona_{agent}", "round": month, "action": "harvesting", "concurrent_harvesting": True,
         "resource_in_pool_before_harvesting": float(before), "resource_in_pool_after_harvesting": float(after),
         "resource_collected": float(got), "wanted_resource": float(asked)}
        for agent, (got, asked) in enumerate(zip(grants, demands or grants, strict=True))
    ]  # fmt: skip


def talk(month, limit=None):
    return [
        {"agent_id": "framework", "round": month, "action": "utterance", "agent_name": "Mayor", "utterance": "Report."},
        {"agent_id": "persona_0", "round": month, "action": "utterance", "agent_name": "John", "utterance": "Hm."},
        {"agent_id": "framework", "round": month, "action": "conversation_resource_limit", "resource_limit": limit},
    ]  # fmt: skip


LOG = [*harvests(0, 20, [5, 5]), *talk(0, 5.0), *harvests(1, 20, [9, 8], [9, 30])]
RUN = {"run": "calm-lake-1", "experiment": "fish", "names": ["John", "Kate"], "max_rounds": 12, "log": LOG}


def changed(change, **fields):
    run = copy.deepcopy({**RUN, **fields})
    change(run["log"])
    return run


def write(folder, *runs):
    path = folder / "runs.jsonl"
    path.write_text("".join(json.dumps(run) + "\n" for run in runs))
    return path


def analysed(folder, inputs, **params):
    ctx = LocalContext(folder / "out", inputs=inputs)
    try:
        return analyse(AnalyseParams(**{"sources": list(inputs), **params}), ctx)
    finally:
        ctx.close()


def test_jsonl_with_a_run_a_line_is_read(tmp_path):
    (run,) = analysed(tmp_path, {SOURCE: write(tmp_path, RUN)}).runs
    assert (run.run, run.group, run.survival_time) == ("calm-lake-1", "fish", 2)
    assert run.pool == [[20, 10], [20, 3]]
    assert run.demanded == [[5, 5], [9, 30]]
    assert run.over_usage == 2 / 4  # thr 5 both months
    assert run.over_usage_published == 2 / 5  # and one utterance of an agent


def test_a_bare_log_env_array_is_read_with_the_params_months(tmp_path):
    path = tmp_path / "log_env.json"
    path.write_text(json.dumps(LOG))
    result = analysed(tmp_path, {SOURCE: path}, labels=["mine"])
    assert (result.runs[0].run, result.groups[0].group) == (SOURCE, "mine")


def test_agents_may_be_logged_in_any_order(tmp_path):
    shuffled = changed(lambda log: log.__setitem__(slice(0, 2), log[1::-1]))
    result = analysed(tmp_path, {SOURCE: write(tmp_path, RUN, {**shuffled, "run": "b", "names": ["Kate", "John"]})})
    assert result.runs[0].demanded[1] == [9, 30]
    assert result.runs[1].demanded[1] == [30, 9]  # in the order they first appear


def test_a_newcomer_in_a_log_is_recognised(tmp_path):
    log = [*harvests(0, 100, [10]), *harvests(1, 100, [10, 60]), *harvests(2, 60, [30, 30])]
    (run,) = analysed(tmp_path, {SOURCE: write(tmp_path, {**RUN, "log": log})}).runs
    assert [len(month) for month in run.granted] == [1, 2, 2]
    assert run.gains == [50, 90]
    assert run.gain == (40 + 90) / 2  # from its arrival on


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        pytest.param(harvests(0, 20, [5, 5]), "stops after month 1 of 12 with 10 units left", id="after-a-month"),
        pytest.param(
            [*harvests(0, 20, [5, 5]), harvests(1, 20, [9, 8])[0]],
            "breaks off within the harvest of month 2",
            id="within-a-month",
        ),
        pytest.param([], "holds no complete harvest", id="before-it-began"),
    ],
)
def test_an_interrupted_run_is_rejected_and_counts_nowhere(tmp_path, log, reason):
    result = analysed(tmp_path, {SOURCE: write(tmp_path, RUN, {**RUN, "run": "b", "log": log})})
    (rejected,) = result.rejected
    assert (rejected.source, rejected.run) == (SOURCE, "b")
    assert reason in rejected.reason
    assert "import finished runs only" in rejected.reason
    assert [group.runs for group in result.groups] == [1]


def test_when_all_runs_are_rejected_the_result_says_so(tmp_path):
    result = analysed(tmp_path, {SOURCE: write(tmp_path, {**RUN, "log": LOG[:2]})})
    assert (result.groups, result.runs, len(result.rejected)) == ([], [], 1)


def drop(key, record=0):
    return lambda log: log[record].pop(key)


def put(key, value, record=0):
    return lambda log: log[record].__setitem__(key, value)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        pytest.param(
            changed(drop("wanted_resource")), ["record 1", "`wanted_resource`", "all keys"], id="missing-demand"
        ),
        pytest.param(changed(drop("round", 3)), ["record 4", "`round`"], id="missing-round"),
        pytest.param(
            changed(put("resource_in_pool_after_harvesting", None, 1)), ["record 2", "_after_harv"], id="null"
        ),
        pytest.param(changed(put("wanted_resource", 2.5)), ["record 1", "2.5", "whole number"], id="fraction"),
        pytest.param(changed(put("wanted_resource", -3)), ["-3", "from 0"], id="negative"),
        pytest.param(changed(put("wanted_resource", "7")), ["'7'", "whole number"], id="text"),
        pytest.param(changed(put("wanted_resource", True)), ["True", "whole number"], id="truth-value"),
        pytest.param(changed(put("wanted_resource", 1e300)), ["1e+300"], id="absurd"),
        pytest.param(changed(put("resource_collected", 4)), ["month 1", "collected 9 units", "fell by 10"], id="sums"),
        pytest.param(changed(put("resource_in_pool_before_harvesting", 21, 1)), ["21 → 10", "20 → 10"], id="stock"),
        pytest.param(changed(put("agent_id", "persona_0", 1)), ["harvests twice in round 0"], id="twice"),
        pytest.param(changed(put("round", 2, 5)), ["round 2 follows round 0", "without a gap"], id="gap"),
        pytest.param(
            changed(lambda log: log.insert(0, talk(0)[0])), ["record 1", "speaks in round 0 before"], id="order"
        ),
        pytest.param(changed(lambda log: log.__setitem__(0, "x")), ["record 1", "no JSON object"], id="no-record"),
        pytest.param(
            changed(lambda log: log.extend(harvests(2, 6, [1, 1]))),
            ["goes on after month 2", "collapse_below"],
            id="after-collapse",
        ),
        pytest.param({**RUN, "max_rounds": 1}, ["holds 2 months", "max_rounds"], id="too-many-months"),
        pytest.param({**RUN, "names": ["John"]}, ["1 `names` but 2 agents"], id="names"),
        pytest.param({"run": "calm-lake-1"}, ["no `log`"], id="no-log"),
        pytest.param({**RUN, "max_rounds": "many"}, ["`max_rounds`", "valid integer"], id="max-rounds"),
        pytest.param({**RUN, "names": "John"}, ["`names`", "list"], id="names-no-list"),
        pytest.param({**RUN, "models": 3}, ["`models`", "list"], id="models-no-list"),
    ],
)
def test_a_wrong_log_is_refused_with_line_run_and_remedy(tmp_path, run, says):
    with pytest.raises(InvalidInput) as refused:
        analysed(tmp_path, {SOURCE: write(tmp_path, {**RUN, "run": "fine"}, run)})
    for part in [f"{SOURCE}, line 2", "run calm-lake-1", *says]:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(json.dumps(RUN)[:-40], "line 1: is not whole JSON", id="line-cut-off"),
        pytest.param(json.dumps(LOG)[:-40], f"{SOURCE}: is not whole JSON", id="array-cut-off"),
        pytest.param("17\n", "line 1: is no JSON object", id="a-number"),
        pytest.param("[" * 100_000, "is not whole JSON", id="nested-too-deep"),
        pytest.param("\x00\xff", "line 1: is not whole JSON", id="binary"),
    ],
)
def test_a_source_cut_off_is_refused(tmp_path, text, says):
    path = tmp_path / "source"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InvalidInput, match=says):
        analysed(tmp_path, {SOURCE: path})


def test_an_empty_source_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=f"{SOURCE} holds no run: export it again"):
        analysed(tmp_path, {SOURCE: write(tmp_path)})


def test_runs_made_under_other_conditions_need_a_label_of_their_own(tmp_path):
    longer = {**RUN, "run": "b", "max_rounds": 15}
    sources = {SOURCE: write(tmp_path, RUN)}
    (tmp_path / "other").mkdir()
    sources[OTHER] = write(tmp_path / "other", longer)
    with pytest.raises(InvalidInput, match=r"other conditions .* label of its own"):
        analysed(tmp_path, sources)
    groups = analysed(tmp_path, sources, labels=["12", "15"]).groups
    assert [group.group for group in groups] == ["12", "15"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param('{"run": "a", "month": 1, "agent": "persona_0"}', "has no `reply`", id="no-reply"),
        pytest.param('{"run": "a", "month": "1", "agent": "persona_0", "reply": "x"}', "month must be", id="month"),
        pytest.param('{"run": "a", "month": 1, "agent": "persona_0", "reply": 3}', "reply text or null", id="reply"),
        pytest.param('{"run": "a"', "not whole JSON", id="cut-off"),
        pytest.param("[]", "has no `run`", id="no-object"),
    ],
)
def test_wrong_replies_are_refused_with_their_line(tmp_path, line, says):
    path = tmp_path / "replies.jsonl"
    path.write_text('{"run": "a", "month": 1, "agent": "persona_0", "reply": null}\n' + line)
    ctx = LocalContext(tmp_path / "out", inputs={SOURCE: write(tmp_path, RUN), OTHER: path})
    with pytest.raises(InvalidInput, match=f"line 2: .*{says}"):
        analyse(AnalyseParams(sources=[SOURCE], replies=OTHER), ctx)


def test_replies_of_other_runs_are_refused(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_text('{"run": "someone-else", "month": 1, "agent": "persona_0", "reply": "Answer: 3"}\n')
    ctx = LocalContext(tmp_path / "out", inputs={SOURCE: write(tmp_path, RUN), OTHER: path})
    with pytest.raises(InvalidInput, match=r"someone-else, .* none of the sources' runs"):
        analyse(AnalyseParams(sources=[SOURCE], replies=OTHER), ctx)
    ctx.close()


# Our own runs -------------------------------------------------------------------------------------------------------


def simulated(folder, **params):
    ctx = LocalContext(folder)
    result = simulate(SimulateParams(**params), ctx)
    ctx.close()
    return result


def archive(folder):
    """Member name → records."""
    with tarfile.open(folder / "log_env.tar") as tar:
        return {member.name: json.load(tar.extractfile(member)) for member in tar}


SOCIETIES = [
    pytest.param({"policies": {"type": "random", "low": 0, "high": 20}}, id="random"),
    pytest.param({"experiment": "newcomer", "policies": {"type": "tit_for_tat"}}, id="newcomer"),
    pytest.param({"communication": False}, id="silent"),
    pytest.param({"order": "sequential", "policies": {"type": "greedy"}}, id="sequential"),
    pytest.param({"allocation": "proportional", "policies": {"type": "greedy"}}, id="proportional"),
    pytest.param({"experiment": "newcomer", "threshold_agents": "official"}, id="official-threshold"),
]


def of(model, given):
    """The fields of a model that something else has, too."""
    return {name: getattr(given, name) for name in model.model_fields}


@pytest.mark.parametrize("society", SOCIETIES)
def test_a_simulation_analysed_has_its_own_metrics(tmp_path, society):
    ours = simulated(tmp_path / "job", runs=30, **society)
    read = analysed(tmp_path, {f"{JOB}/runs.jsonl": tmp_path / "job" / "runs.jsonl"}, sources=[JOB])
    (group,) = read.groups
    assert of(Metrics, group) == of(Metrics, ours)
    for mine, theirs in zip(ours.runs, read.runs, strict=True):
        assert of(RunOutcome, mine) == of(RunOutcome, theirs)


@pytest.mark.parametrize("society", SOCIETIES[:4])
def test_a_log_env_we_write_reads_back_to_the_same_run(tmp_path, society):
    ours = simulated(tmp_path / "job", runs=3, **society)
    logs = archive(tmp_path / "job")
    assert list(logs) == [f"0000{run}-{run}/log_env.json" for run in range(3)]
    months = 15 if society.get("experiment") == "newcomer" else 12
    for run, log in zip(ours.runs, logs.values(), strict=True):
        path = tmp_path / "log_env.json"
        path.write_text(json.dumps(log))
        (read,) = analysed(tmp_path, {SOURCE: path}, months=months).runs
        assert of(RunOutcome, run) == of(RunOutcome, read)


def test_every_record_has_the_fields_keys(tmp_path):
    simulated(tmp_path, runs=1)
    for record in archive(tmp_path)["00000-0/log_env.json"]:
        assert tuple(record) == KEYS


def test_the_log_of_a_real_run_is_written_back_as_it_was(tmp_path, real_data, real_runs):
    analysed(tmp_path, {SOURCE: real_data / "runs.jsonl"})
    logs = archive(tmp_path / "out")
    assert len(logs) == 36
    for run, log in zip(real_runs, logs.values(), strict=True):
        assert log == [{key: record.get(key) for key in KEYS} for record in run["log"]]


def test_the_archive_stops_before_it_gets_too_large(tmp_path):
    simulated(tmp_path, runs=40, months=200, agents=50)  # 200 × (50 + 12) records each
    assert len(archive(tmp_path)) == MAX_RECORDS // (200 * (50 + 12))


def test_the_archive_has_the_same_bytes_each_time(tmp_path):
    simulated(tmp_path, runs=2)
    first, second = io.BytesIO(), io.BytesIO()
    assert write_tar(first, made_runs(tmp_path / "runs.jsonl")) == 2
    write_tar(second, made_runs(tmp_path / "runs.jsonl"))
    assert first.getvalue() == second.getvalue() == (tmp_path / "log_env.tar").read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda line: line.pop("condition"), "has no `condition`", id="no-condition"),
        pytest.param(lambda line: line.pop("limit"), "has no `limit`", id="no-limit"),
        pytest.param(lambda line: line["condition"].update(months=3), "of months, from 1 to 3", id="too-many-months"),
        pytest.param(
            lambda line: line["condition"].update(months=10**9), "`condition.months`: .* 1000", id="memory-bomb"
        ),
        pytest.param(lambda line: line["pool"].append([1]), "`pool.12`: .* at least 2", id="half-a-month"),
        pytest.param(
            lambda line: line["granted"][0].append(3), "month 1 doesn't have a row of 5", id="too-many-agents"
        ),
        pytest.param(lambda line: line["granted"].pop(), "same number of months", id="missing-month"),
        pytest.param(lambda line: line["pool"].__setitem__(0, ["x", "y"]), "`pool.0.0`: .* integer", id="text"),
        pytest.param(lambda line: line["pool"].__setitem__(2, [100, 49]), "stock falls from 100 to 49", id="sums"),
        pytest.param(
            lambda line: line["condition"].update(collapse_below=60), "after its collapse", id="after-collapse"
        ),
        pytest.param(lambda line: line["condition"].update(months=13), "ends before it", id="interrupted"),
    ],
)
def test_a_changed_runs_file_is_refused(tmp_path, change, says):
    simulated(tmp_path / "job", runs=2)
    lines = [json.loads(line) for line in (tmp_path / "job" / "runs.jsonl").read_text().splitlines()]
    change(lines[1])
    with pytest.raises(InvalidInput, match=f"line 2: .*{says}"):
        analysed(tmp_path, {SOURCE: write(tmp_path, *lines)})


def test_an_analysis_can_be_analysed_again(tmp_path):
    first = analysed(tmp_path, {SOURCE: write(tmp_path, RUN)})
    again = Path(tmp_path / "again")
    again.mkdir()
    assert analysed(again, {SOURCE: tmp_path / "out" / "runs.jsonl"}).groups == first.groups
