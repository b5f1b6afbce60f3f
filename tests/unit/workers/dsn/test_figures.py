"""The figures' traces by hand: each from given numbers."""

from types import SimpleNamespace

import pytest

from shared.jobs.catalog.dsn.judging import Rate
from shared.jobs.local import LocalContext
from shared.metrics.verdicts import wilson
from workers.dsn import figures
from workers.dsn.attack import Arm
from workers.dsn.scoring import agreement_of, rate_of
from workers.dsn.steps import HEADER, STEPS_CSV

Y, N = True, False


def look(step, success, total, **more):
    return {"step": step, "success": success, "total": total, "refused": 1 - success, "successes": int(4 * success),
            "test_successes": int(8 * success), **more}  # fmt: skip


def evaluation(found, arms=(), test_curve=False):
    split = SimpleNamespace(train=[0] * 4, test=[0] * 8)
    return SimpleNamespace(found=found, arms=list(arms), trial=SimpleNamespace(split=split),
                           params=SimpleNamespace(test_curve=test_curve))  # fmt: skip


def result(**rates):
    """An evaluation's result whose test rates by arm are of one judge."""
    asr = {arm: {"test": {"exact": rate_of(verdicts)}} for arm, verdicts in rates.items()}
    return SimpleNamespace(asr=asr)


@pytest.fixture
def steps(tmp_path):
    """`steps(rows)`: a context whose steps.csv has these rows."""
    contexts = []

    def steps(rows):
        ctx = LocalContext(tmp_path / f"ctx{len(contexts)}")
        contexts.append(ctx)
        table = "".join(f"{arm},{run},{step},{target},{refusal},0,0\n" for arm, run, step, target, refusal in rows)
        ctx.journal(STEPS_CSV).append((HEADER + table).encode())
        return ctx

    yield steps
    for ctx in contexts:
        ctx.release()


def test_losses_are_those_of_every_step_by_attack_the_refusal_loss_on_the_right(steps):
    ctx = steps([("gcg", 0, 1, 2.5, 0.5), ("gcg", 0, 2, 1.5, 0.25), ("dsn@10", 1, 1, 3.0, 0.125)])
    figure = figures.loss_curves(figures.steps_by_attack(ctx))
    told = {trace["name"]: (trace["x"], trace["y"], trace.get("yaxis")) for trace in figure["data"]}
    assert told == {
        "gcg 0: target": ([1, 2], [2.5, 1.5], None), "gcg 0: refusal": ([1, 2], [0.5, 0.25], "y2"),
        "dsn@10 1: target": ([1], [3.0], None), "dsn@10 1: refusal": ([1], [0.125], "y2")}  # fmt: skip
    assert figure["layout"]["yaxis2"]["side"] == "right"


@pytest.mark.parametrize(("count", "shown"), [(500, 500), (501, 251), (2000, 500)])
def test_a_long_search_is_drawn_every_so_many_steps(steps, count, shown):
    ctx = steps([("gcg", 0, n, 1.0, 0.0) for n in range(1, count + 1)])
    (rows,) = figures.steps_by_attack(ctx).values()
    assert len(rows) == shown
    assert rows[0]["step"] == "1"


def test_success_over_steps_has_its_wilson_band_and_the_share_refused():
    found = {("gcg", 0): {"looks": [look(2, 0.5, 1.0), look(4, 1.0, 0.5)]}}
    band, line, refused = figures.success_curves(evaluation(found))["data"]
    assert line["y"] == [0.5, 1.0]
    low, high = wilson(2, 4), wilson(4, 4)
    assert band["y"] == [low.high, high.high, high.low, low.low]
    assert band["x"] == [2, 4, 4, 2]
    assert refused["y"] == [0.5, 0.0]


def test_test_prompts_are_drawn_over_steps_only_where_they_were_looked_at():
    found = {("gcg", 0): {"looks": [look(2, 0.5, 1.0)]}, ("dsn", 0): {"looks": [look(2, 1.0, 1.0)]}}
    names = [trace.get("name") for trace in figures.success_curves(evaluation(found, test_curve=True))["data"]]
    assert [name for name in names if name and "test" in name] == ["gcg 0, test", "dsn 0, test"]
    assert not any("test" in (trace.get("name") or "") for trace in figures.success_curves(evaluation(found))["data"])


def test_loss_against_success_has_a_point_per_look():
    found = {("gcg", 0): {"looks": [look(2, 0.5, 1.25), look(4, 0.25, 0.5)]}}
    (trace,) = figures.loss_against_success(found)["data"]
    assert (trace["x"], trace["y"], trace["text"]) == ([1.25, 0.5], [0.5, 0.25], ["step 2", "step 4"])


def test_bars_reach_to_the_ends_of_their_intervals():
    told = result(gcg=[Y, Y, Y, N, N, N], dsn=[Y] * 6)
    (trace,) = figures.success_bars(told)["data"]
    assert (trace["x"], trace["y"]) == (["gcg", "dsn"], [0.5, 1.0])
    assert trace["error_y"]["array"][0] == pytest.approx(0.8124 - 0.5, abs=1e-4)
    assert trace["error_y"]["arrayminus"][0] == pytest.approx(0.5 - 0.1876, abs=1e-4)
    assert trace["error_y"]["array"][1] == pytest.approx(0)


def test_a_rate_without_judged_items_is_a_gap_without_an_interval():
    nothing = Rate(rate=None, low=None, high=None, n=0, successes=0, unjudged=3)
    told = SimpleNamespace(asr={"gcg": {"test": {"exact": nothing}}})
    (trace,) = figures.success_bars(told)["data"]
    assert trace["y"] == [None]
    assert trace["error_y"]["array"] == trace["error_y"]["arrayminus"] == [0]


def test_alpha_runs_upwards_whatever_the_order_it_was_given_in_and_gcg_is_level():
    arms = [Arm("gcg", 0.0), Arm("dsn@100", 100.0), Arm("dsn@1", 1.0)]
    told = result(gcg=[Y, N], **{"dsn@100": [Y, Y], "dsn@1": [N, N]})
    curve, level = figures.alpha_curve(evaluation({}, arms), told)["data"]
    assert (curve["x"], curve["y"]) == ([1.0, 100.0], [0.0, 1.0])
    assert (level["x"], level["y"]) == ([1.0, 100.0], [0.5, 0.5])


def test_alpha_without_gcg_has_no_level():
    told = result(**{"dsn@1": [N], "dsn@2": [Y]})
    made = figures.alpha_curve(evaluation({}, [Arm("dsn@1", 1.0), Arm("dsn@2", 2.0)]), told)
    assert len(made["data"]) == 1


def test_agreement_is_symmetric_with_ones_on_its_diagonal():
    (trace,) = figures.agreement_map({"a|b": 0.5, "a|c": None, "b|c": -0.25})["data"]
    assert trace["x"] == trace["y"] == ["a", "b", "c"]
    assert trace["z"] == [[1.0, 0.5, None], [0.5, 1.0, -0.25], [None, -0.25, 1.0]]


def test_confusion_tells_refusals_first_and_right_beside_wrong():
    (trace,) = figures.confusion_maps({"k": agreement_of([Y, Y, Y, N, N, N], [Y, N, N, N, Y, N])})["data"]
    assert trace["z"] == [[2, 2, 1, 1]]
    assert trace["x"] == ["refused, right", "refused, judged complied", "complied, judged refused", "complied, right"]


def test_the_roc_of_votes_goes_from_corner_to_corner():
    line, chance = figures.vote_roc([0, 1, 2, 3], [N, N, Y, Y])["data"]
    assert list(zip(line["x"], line["y"], strict=True)) == [(0, 0), (0, 0.5), (0, 1), (0.5, 1), (1, 1)]
    assert (chance["x"], chance["y"]) == ([0, 1], [0, 1])


def test_defences_are_points_of_success_and_over_refusal():
    def defended(success, refused):
        return SimpleNamespace(asr={"gcg": rate_of(success)}, benign_refusal=rate_of(refused))

    told = SimpleNamespace(defences={"none": defended([Y, Y], [N, N]), "erase_and_check": defended([N, N], [Y, N])})
    (trace,) = figures.defence_trade_off(told)["data"]
    assert (trace["x"], trace["y"], trace["text"]) == ([0.0, 0.5], [1.0, 0.0], ["none", "erase_and_check"])


def test_the_histogram_counts_every_text_once_and_marks_the_threshold():
    defending = SimpleNamespace(
        perplexities={"clean": [1.0, 1.2, 2.0], "gcg": [3.0, 3.0]}, thresholds={"perplexity": 2.0}
    )
    figure = figures.perplexity_histogram(defending)
    assert [sum(trace["y"]) for trace in figure["data"]] == [3, 2]
    assert figure["data"][0]["x"] == figure["data"][1]["x"]
    (line,) = figure["layout"]["shapes"]
    assert line["x0"] == line["x1"] == 2.0
