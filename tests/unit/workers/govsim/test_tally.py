"""Tallies: sums that no portioning changes, and a round trip through a checkpoint."""

import numpy as np
import pytest

from shared.jobs.catalog.govsim import Metrics
from workers.govsim.society import conditions_of
from workers.govsim.tally import GINI_STEP, Tally
from workers.govsim.trajectories import Trajectories, measure, monthly_gini

RANDOM = {"type": "random", "low": 0, "high": 20}


def part(batch, rows):
    return Trajectories(**{name: values[rows] for name, values in vars(batch).items()})


def tallied(params, batch, *portions):
    tally = Tally(conditions_of(params))
    for rows in portions:
        tally.add(part(batch, rows))
    return tally


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({}, id="default"),
        pytest.param({"experiment": "newcomer"}, id="newcomer"),
        pytest.param({"communication": False, "order": "sequential"}, id="silent-sequential"),
    ],
)
def society(request, play):
    return play(policies=RANDOM, runs=90, **request.param)


@pytest.mark.parametrize("cuts", [[45], [1, 2, 3], list(range(1, 90))])
def test_portions_change_no_bit(society, cuts):
    params, batch = society
    whole = tallied(params, batch, np.arange(90))
    cut = tallied(params, batch, *np.split(np.arange(90), cuts))
    assert cut.to_bytes() == whole.to_bytes()
    assert cut.summaries() == whole.summaries()


def test_a_tally_comes_back_from_a_checkpoint_and_goes_on(society):
    params, batch = society
    saved = tallied(params, batch, np.arange(30)).to_bytes()
    resumed = Tally.from_bytes(saved, conditions_of(params))
    assert resumed.runs == 30
    resumed.add(part(batch, np.arange(30, 90)))
    assert resumed.to_bytes() == tallied(params, batch, np.arange(90)).to_bytes()


def test_an_empty_tally_has_nothing_and_says_so(society):
    params, _ = society
    tally = Tally.from_bytes(Tally(conditions_of(params)).to_bytes(), conditions_of(params))
    assert tally.runs == 0
    assert all(value is None for summary in tally.summaries().values() for value in summary)


def test_sums_per_month_are_those_of_the_runs(society):
    params, batch = society
    sums = tallied(params, batch, np.arange(90)).sums
    np.testing.assert_array_equal(sums.before, batch.before.sum(axis=0))
    np.testing.assert_array_equal(sums.after_squared, (batch.after**2).sum(axis=0))
    np.testing.assert_array_equal(sums.granted, batch.granted.sum(axis=0))
    np.testing.assert_array_equal(sums.discussed, batch.is_played.sum(axis=0))
    newcomers = params.newcomer_month if params.joins_late else 0
    assert sums.harvests[:newcomers, -1].sum() == 0
    np.testing.assert_array_equal(sums.harvests[newcomers:, -1], batch.is_played.sum(axis=0)[newcomers:])


def test_the_mean_gini_is_exact_to_its_step(society):
    params, batch = society
    sums = tallied(params, batch, np.arange(90)).sums
    gini = monthly_gini(batch, conditions_of(params))
    defined = ~np.isnan(gini).all(axis=0)
    mean = sums.gini[defined] / sums.gini_runs[defined] / GINI_STEP
    np.testing.assert_allclose(mean, np.nanmean(gini[:, defined], axis=0), atol=1e-9)


def test_a_hundred_thousand_full_lakes_of_a_million_do_not_overflow(society):
    _, batch = society
    runs, capacity = 100_000, 10**6
    assert runs * capacity**2 < np.iinfo(np.int64).max
    assert batch.before.dtype == np.int64


def test_summaries_are_named_like_the_result(society):
    params, batch = society
    assert set(tallied(params, batch, np.arange(90)).summaries()) == set(Metrics.model_fields)
    measured = measure(batch, conditions_of(params))
    summary = tallied(params, batch, np.arange(90)).summaries()["survival_rate"]
    assert summary.mean == measured.survived.mean()
