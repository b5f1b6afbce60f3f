"""Prices, choices and tables from numbers worked by hand: no model runs here."""

import csv
import io
import statistics

import pytest

from shared.jobs.catalog.layerskip import BenchParams, Divergence, TuneParams
from shared.models.llama import LlamaConfig
from workers.layerskip.answers import Answer, Step, Stopping
from workers.layerskip.benching import Benchmark, Contender, Taken
from workers.layerskip.costs import Measured
from workers.layerskip.models import Opened
from workers.layerskip.prompts import Prompt
from workers.layerskip.simulation import Counts, Recorded, agrees, expected_acceptance, simulate
from workers.layerskip.theory import CostModel, speedup_of, step_cost
from workers.layerskip.tune_artifacts import SWEEP_COLUMNS, recorded_figures, sweep_csv, tune_json
from workers.layerskip.tuning import LEAST_GAIN, Confirmed, Tuning

MODEL = "file:" + "a" * 64
LAYERS = 4
COSTS = CostModel({1: 1.0, 5: 1.2}, 0.25, {1: 1.0, 5: 1.0})
MEASURED = Measured(1e-4, COSTS)


def opened(tmp_path, context=512):
    return Opened(MODEL, tmp_path, "0", LlamaConfig(256, 8, 8, LAYERS, 1, 1, 8, context=context), None)


def recorded(matches, limit=None, ended=False):
    """A plain run whose first exit agrees where `matches` says, the second everywhere, the third nowhere."""
    tokens = list(range(10, 10 + len(matches)))
    said = [
        [token if match else 0 for token, match in zip(tokens, matches, strict=True)], list(tokens), [0] * len(tokens),
    ]  # fmt: skip
    return Recorded(tokens, ended, limit or len(tokens), said, [[], [], []], [1.0] * len(tokens))


# Simulation -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matches", "drafts", "steps"),
    [
        pytest.param("11111", 2, "2/2 1/1", id="all-match"),
        pytest.param("00000", 2, "0/2 0/2 0/2 0/1 0/0", id="none-match"),
        pytest.param("10110", 2, "1/2 2/2", id="the-bonus-token-is-never-drafted"),
        pytest.param("0111", 3, "0/3 2/2", id="the-limit-cuts-drafts"),
        pytest.param("1", 4, "0/0", id="one-token-drafts-nothing"),
    ],
)
def test_runs_of_matches_are_steps(matches, drafts, steps):
    found = simulate(recorded([each == "1" for each in matches]), 1, drafts)
    assert " ".join(f"{each.accepted}/{each.drafted}" for each in found) == steps


def test_an_end_that_is_drafted_and_stands_ends_the_draft_without_a_bonus():
    found = simulate(recorded([True, True, True], limit=50, ended=True), 1, 8)
    assert found == [Counts(3, 3)]


def test_an_end_that_comes_as_the_bonus_ends_after_its_step():
    found = simulate(recorded([True, True, False], limit=50, ended=True), 1, 2)
    assert found == [Counts(2, 2)]


def test_the_tokens_of_all_steps_are_the_plain_runs():
    for drafts in range(1, 9):
        found = simulate(recorded([n % 3 != 0 for n in range(40)]), 1, drafts)
        assert sum(each.accepted + 1 for each in found) == 40


def test_more_drafts_never_take_more_steps():
    lengths = [len(simulate(recorded([n % 5 != 4 for n in range(60)]), 1, drafts)) for drafts in range(1, 10)]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("real", "same"),
    [
        pytest.param([Step(1, 4, 2), Step(1, 4, 4)], True, id="equal"),
        pytest.param([Step(1, 3, 2), Step(1, 4, 4)], True, id="an-end-drafted-after-the-mismatch"),
        pytest.param([Step(1, 4, 1), Step(1, 4, 4)], False, id="another-count"),
        pytest.param([Step(1, 4, 2)], False, id="a-step-less"),
        pytest.param([Step(1, 4, 2), Step(1, 5, 4)], False, id="more-drafts-than-simulated"),
    ],
)
def test_a_real_run_agrees_where_only_an_unknown_end_can_differ(real, same):
    assert agrees(real, [Counts(2, 4), Counts(4, 4)]) is same


def test_sampled_runs_expect_the_mean_overlap():
    runs = [Recorded(overlaps=[[0.5, 0.7], [1.0, 1.0]]), Recorded(overlaps=[[0.9], [0.0]])]
    assert expected_acceptance(runs, 1) == pytest.approx(0.7)
    assert expected_acceptance([Recorded(overlaps=[[], []])], 1) is None


# Prices ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tuning(tmp_path, context):
    def make(*runs, **params):
        given = {"model": MODEL, "prompts": [[1]] * len(runs), "speculations": [1, 4], "max_new_tokens": 50}
        found = Tuning(
            TuneParams(**{**given, **params}), opened(tmp_path), [Prompt([1])] * len(runs), context(tmp_path)
        )
        found.records = list(runs)
        return found

    return make


def test_a_steps_cost_is_drafts_early_layers_and_one_pass_of_the_others():
    # 4 drafts of (1 + h), the last draft's layer, 3 layers at c(5), the head on 5 rows.
    assert step_cost(1, 4, LAYERS, COSTS) == pytest.approx(4 * 1.25 + 1 + 3 * 1.2 + 0.25)


def test_every_exit_and_draft_length_is_priced_and_the_best_comes_first(tuning):
    priced = tuning(recorded([True] * 30)).priced(MEASURED)
    assert len(priced) == 3 * 2
    assert [each.predicted for each in priced] == sorted((each.predicted for each in priced), reverse=True)
    best = priced[0]
    assert (best.exit_layer, best.drafts, best.acceptance) == (1, 4, 1.0)
    assert best.predicted == pytest.approx(speedup_of(best.tokens_per_step, 1, 4, LAYERS, COSTS))


def test_acceptance_is_pooled_over_prompts(tuning):
    priced = tuning(recorded([True] * 10), recorded([False] * 10), speculations=[1]).priced(MEASURED)
    first = next(each for each in priced if each.exit_layer == 1)
    # Ten matches: 5 steps of one draft; none: 9 steps with a refused draft and a last one without.
    assert first.acceptance == pytest.approx(5 / 14)
    assert first.tokens_per_step == pytest.approx(20 / 15)


def test_an_exit_that_never_agrees_is_priced_below_plain_decoding(tuning):
    priced = tuning(recorded([True] * 30)).priced(MEASURED)
    assert all(each.predicted < 1 for each in priced if each.exit_layer == 3)


# Choices --------------------------------------------------------------------------------------------------------------


def confirmed(speedups, divergences=()):
    return Confirmed(speedups, True, list(divergences), 1e-3)


def test_of_the_confirmed_the_one_that_ran_fastest_is_chosen(tuning):
    each = tuning(recorded([True] * 30))
    result = each.result(each.priced(MEASURED), confirmed({(1, 4): 1.4, (1, 1): 1.6}), MEASURED)
    assert (result.pays, result.exit_layer, result.num_speculations) == (True, 1, 1)
    assert "measured 1.60×" in result.verdict


@pytest.mark.parametrize(
    ("matches", "measured"),
    [
        pytest.param([True] * 30, 0.95, id="predicted-but-not-measured"),
        pytest.param([False] * 30, 1.3, id="not-predicted"),
    ],
)
def test_speculation_pays_only_where_formula_and_run_agree(tuning, matches, measured):
    each = tuning(recorded(matches), exit_layers=[1], speculations=[1])
    priced = each.priced(MEASURED)
    result = each.result(priced, confirmed({(1, 1): measured}), MEASURED)
    assert (result.pays, result.exit_layer, result.num_speculations) == (False, None, None)
    assert result.verdict.startswith("speculation does not pay here")
    assert (priced[0].predicted > LEAST_GAIN) is (measured < 1)


def test_divergences_are_named_and_unequal_ids_said(tuning):
    each = tuning(recorded([True] * 30))
    named = Divergence(prompt=0, exit_layer=1, num_speculations=4, position=7, margin=3e-5)
    result = each.result(each.priced(MEASURED), confirmed({(1, 4): 1.4}, [named]), MEASURED)
    assert (result.ids_equal, result.divergences) == (False, [named])


def test_text_that_loops_is_warned_of(tuning):
    looping = recorded([True] * 40)
    looping.tokens = [1, 2, 3, 4] * 10
    each = tuning(looping)
    assert "the text loops" in each.result(each.priced(MEASURED), confirmed({(1, 4): 2.0}), MEASURED).warnings[0]


# Tables ---------------------------------------------------------------------------------------------------------------


def test_the_sweep_has_the_official_columns_measured_where_a_run_was(tuning):
    each = tuning(recorded([True] * 30))
    rows = list(csv.DictReader(io.StringIO(sweep_csv(each, each.priced(MEASURED), confirmed({(1, 4): 2.0})))))
    assert tuple(rows[0]) == SWEEP_COLUMNS
    assert [(row["exit_layer"], row["num_speculations"]) for row in rows] == [(e, k) for e in "123" for k in "14"]
    measured = next(row for row in rows if row["measured_speedup"])
    assert float(measured["time_per_token"]) == pytest.approx(1e-3 / 2)
    assert float(measured["total_time"]) == pytest.approx(30 * 1e-3 / 2)
    predicted = rows[0]
    assert float(predicted["tokens_per_second"]) == pytest.approx(1e3 * float(predicted["predicted_speedup"]))


def test_what_generation_takes_is_the_choice_and_the_costs(tuning):
    each = tuning(recorded([True] * 30))
    said = tune_json(each.result(each.priced(MEASURED), confirmed({(1, 4): 1.4}), MEASURED))
    assert (said["pays"], said["exit_layer"], said["num_speculations"]) == (True, 1, 4)
    assert said["costs"]["c"] == {"1": 1.0, "5": 1.2}
    assert said["costs"]["h"] == 0.25


def test_figures_of_what_was_recorded_do_not_need_a_clock(tuning):
    figures = recorded_figures(tuning(recorded([True, False] * 10)))
    assert set(figures) == {"acceptance.plotly.json", "accepted.plotly.json", "tokens.plotly.json"}
    (grid,) = figures["tokens.plotly.json"]["data"]
    assert grid["z"][0] == [1, 0] * 10
    assert grid["z"][-1] == [1] * 20  # the last layer agrees with itself


# The bench's rows -----------------------------------------------------------------------------------------------------


@pytest.fixture
def benchmark(tmp_path, context):
    params = BenchParams(model=MODEL, prompts=[[1], [1]], max_new_tokens=20, exit_layers=[1], speculations=[4])
    return Benchmark(params, opened(tmp_path), [Prompt([1]), Prompt([1])], context(tmp_path))


def taken(rounds, tokens=(10, 20), steps=(), first=(0.0, 0.0)):
    answers = []
    for count in tokens:
        found = Answer([1], 50, Stopping(50))
        found.commit(list(range(count)))
        found.steps += steps
        answers.append(found)
    return Taken([list(each) for each in rounds], list(first), answers)


PLAIN = Contender("autoregressive", None, None, None)
OURS = Contender("self_speculative", 1, 4, None)


def test_time_per_token_is_the_median_over_rounds_and_the_mean_over_prompts(benchmark):
    own = taken([(1.0, 4.0), (2.0, 4.0), (9.0, 4.0)])
    row = benchmark._row(PLAIN, own, [0, 1], own, MEASURED)
    assert row.time_per_token_ms == pytest.approx(1000 * statistics.mean([2.0 / 10, 4.0 / 20]))
    assert row.tokens_per_second == pytest.approx(statistics.mean([10 / 2.0, 20 / 4.0]))  # of samples, not 1 / the mean
    assert row.tokens_per_second_pooled == pytest.approx(30 / 6.0)
    assert row.speedup == 1.0
    assert row.spread_ms == pytest.approx([1000 * 5 / 30, 1000 * 13 / 30])


def test_a_speedup_is_a_ratio_of_times_per_token(benchmark):
    row = benchmark._row(OURS, taken([(1.0, 2.0)]), [0, 1], taken([(2.0, 4.0)]), MEASURED)
    assert row.speedup == pytest.approx(2.0)


def test_a_prompt_without_an_answer_is_left_out(benchmark):
    own = taken([(5.0, 4.0)], tokens=(0, 20))
    row = benchmark._row(PLAIN, own, [1], own, MEASURED)
    assert row.time_per_token_ms == pytest.approx(200.0)


def test_rates_are_pooled_and_averaged(benchmark):
    own = taken([(1.0, 1.0)])
    own.answers[0].steps += [Step(1, 4, 4)]
    own.answers[1].steps += [Step(1, 4, 1), Step(1, 4, 1)]
    row = benchmark._row(OURS, own, [0, 1], own, MEASURED)
    assert row.acceptance_micro == pytest.approx(6 / 12)
    assert row.acceptance_macro == pytest.approx((1 + 0.25) / 2)


def test_the_prediction_with_the_prompt_is_nearer_to_one(benchmark):
    token = MEASURED.layer_s * (LAYERS + COSTS.h)
    plain = taken([(1.0, 1.0)], first=(token + 0.01, token + 0.01))
    own = taken([(1.0, 1.0)], steps=(Step(1, 4, 4),))
    row = benchmark._row(OURS, own, [0, 1], plain, MEASURED)
    answer = 15 * token
    assert row.predicted_with_prompt == pytest.approx((0.01 + answer) / (0.01 + answer / row.predicted_speedup))
    assert 1 < row.predicted_with_prompt < row.predicted_speedup


def test_an_early_exit_is_predicted_by_the_layers_it_runs(benchmark):
    row = benchmark._row(
        Contender("early_exit", 2, None, None), taken([(1.0, 1.0)]), [0, 1], taken([(1.0, 1.0)]), MEASURED
    )
    assert row.predicted_speedup == pytest.approx((LAYERS + 0.25) / (2 + 0.25))


@pytest.mark.parametrize("strategy", ["transformers generate", "compiled self_speculative"])
def test_others_loops_are_not_predicted_by_our_costs(benchmark, strategy):
    row = benchmark._row(Contender(strategy, 1, 4, None), taken([(1.0, 1.0)]), [0, 1], taken([(1.0, 1.0)]), MEASURED)
    assert (row.predicted_speedup, row.predicted_with_prompt) == (None, None)


def test_equal_outputs_are_counted_against_plain(benchmark):
    own = taken([(1.0, 1.0)])
    own.answers[1].emitted[3] = 99
    assert benchmark._row(OURS, own, [0, 1], taken([(1.0, 1.0)]), MEASURED).equal_outputs == 1
