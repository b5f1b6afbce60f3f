"""insta.downstream: arms with equal steps, intervals that are said whatever they are."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from shared.jobs.catalog.insta import DownstreamParams
from shared.jobs.errors import Cancelled, InvalidInput
from workers.insta import downstream as module
from workers.insta.downstream import contrast, t_interval
from workers.insta.jobs import downstream

INDEX, TASKS = "file:" + "b" * 64, "file:" + "c" * 64
SMALL = {
    "targets": ["tenfold/sort_descending", "tenfold/count_vowels"], "seeds": 2, "steps": 3, "batch": 4, "width": 16,
    "layers": 1, "adapt_steps": 2, "adapt_examples": 8, "eval_examples": 8,
}  # fmt: skip


@pytest.fixture
def study(context, our_index, tmp_path):
    def run(name="out", inputs=None, **params):
        ctx = context(tmp_path / name, {INDEX: our_index, **(inputs or {})})
        result = downstream(DownstreamParams(index=INDEX, **{**SMALL, **params}), ctx)
        ctx.close()
        lines = [json.loads(line) for line in (tmp_path / name / "scores.jsonl").read_text().splitlines()]
        return result, lines

    return run


def test_every_arm_is_scored_on_every_target_and_seed(study):
    result, lines = study()
    assert [arm.method for arm in result.arms] == ["insta", "random", "all"]
    assert {(line["method"], line["target"], line["seed"]) for line in lines} == {
        (method, target, seed)
        for method in ("insta", "random", "all") for target in SMALL["targets"] for seed in (42, 43)
    }  # fmt: skip
    assert result.runs == 2 * (2 + 2 + 1)  # `all` serves every target of a seed
    assert [contrast.against for contrast in result.contrasts] == ["random", "all"]
    for line in lines:
        assert set(line["tasks"]).isdisjoint(SMALL["targets"])
        assert line["method"] == "all" or len(line["tasks"]) == 5
    insta = next(line for line in lines if line["method"] == "insta" and line["target"] == "tenfold/sort_descending")
    assert "tenfold/sort_ascending" in insta["tasks"]
    assert result.arms[0].same_category > result.arms[1].same_category


def test_stopped_and_resumed_the_scores_are_the_same(study, context, our_index, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_STEPS", 2)
    expected, _ = study("whole")
    cut = context(tmp_path / "cut", {INDEX: our_index})
    cut._say = lambda event, data: setattr(cut, "cancelled", data.get("done") == 12)
    params = DownstreamParams(index=INDEX, **SMALL)
    with pytest.raises(Cancelled):
        downstream(params, cut)
    cut.release()
    again = context(tmp_path / "cut", {INDEX: our_index})
    assert again.restored().state == {"run": 3, "step": 2}
    assert downstream(params, again) == expected
    again.close()
    assert (tmp_path / "cut" / "scores.jsonl").read_bytes() == (tmp_path / "whole" / "scores.jsonl").read_bytes()


def test_targets_are_drawn_one_of_each_category(study):
    result, _ = study(targets=None, seeds=2, steps=1, methods=["random", "all"])
    assert len(result.targets) == 8


def lines_of(differences):
    return [{"target": str(n), "method": method, "accuracy": 0.5 + value * (method == "insta"), "loss": 1.0}
            for n, value in enumerate(differences) for method in ("insta", "random")]  # fmt: skip


@pytest.mark.parametrize(
    ("differences", "claimed"),
    [pytest.param([0.2, 0.3, 0.25], True, id="clear"), pytest.param([0.3, -0.2, 0.1], False, id="unclear")],
)
def test_nothing_is_claimed_unless_the_interval_excludes_zero(differences, claimed):
    found = contrast(lines_of(differences), "insta", "random")
    assert found.excludes_zero == claimed
    assert found.difference == pytest.approx(np.mean(differences))
    assert (found.low > 0) == claimed


def test_the_interval_by_hand():
    low, high = t_interval([1.0, 2.0, 3.0])  # 2 ± 4.302653 · 1/√3
    assert (low, high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert t_interval([1.0]) == (None, None)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        pytest.param({"targets": ["tenfold/zz"]}, "'tenfold/zz', which is no task", id="unknown-target"),
        pytest.param({"k": 39}, "k 39 is above the 38 tasks", id="k"),
        pytest.param({"eval_examples": 1_000}, "has 640 instances, .* need 1008", id="too-few-instances"),
    ],
)
def test_bad_studies_are_refused(study, params, said):
    with pytest.raises(InvalidInput, match=said):
        study(**params)


def test_tasks_need_instances(study, write_lines, task, tmp_path):
    path = write_lines(tmp_path / "t.jsonl", [task("tenfold/add", "Add.")])
    with pytest.raises(InvalidInput, match=r"no task of .* has instances"):
        study(inputs={TASKS: path}, tasks=TASKS)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_study_reports_an_interval_whatever_it_is(tmp_path):
    from tests.bench.bench_insta_downstream import TARGETS
    from tests.bench.bench_insta_downstream import study as whole_study

    result = whole_study(tmp_path)
    assert (result.targets, result.seeds, len(result.arms)) == (TARGETS, 3, 3)
    for found in result.contrasts:
        assert found.low <= found.difference <= found.high
        assert found.excludes_zero == (found.low > 0 or found.high < 0)
