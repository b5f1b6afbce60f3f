"""What holds for every society, tried on societies nobody thought of, against a plain implementation of the rules."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.jobs.catalog.govsim import SimulateParams
from workers.govsim.hosts import local_hosts
from workers.govsim.society import conditions_of, simulate_runs
from workers.govsim.trajectories import measure, monthly_gini

UNITS = st.integers(0, 60)
POLICIES = st.one_of(
    st.just({"type": "threshold"}),
    st.just({"type": "tit_for_tat"}),
    st.builds(lambda quantity: {"type": "fixed", "quantity": quantity}, UNITS),
    st.builds(lambda factor: {"type": "greedy", "factor": factor}, st.one_of(st.none(), st.floats(0, 3))),
    st.builds(lambda low, span: {"type": "random", "low": low, "high": low + span}, UNITS, UNITS),
    st.builds(lambda demands: {"type": "replay", "demands": demands}, st.lists(UNITS, min_size=1, max_size=8)),
)


@st.composite
def societies(draw):
    """Params of a small society, any rules."""
    agents = draw(st.integers(2, 7))
    capacity = draw(st.integers(5, 150))
    start = draw(st.integers(1, capacity))
    params = {
        "agents": agents, "capacity": capacity, "start": start, "growth": draw(st.integers(1, 4)),
        "collapse_below": draw(st.integers(1, start)), "months": draw(st.integers(5, 9)),
        "allocation": draw(st.sampled_from(["stochastic", "proportional"])),
        "order": draw(st.sampled_from(["concurrent", "sequential"])),
        "threshold_agents": draw(st.sampled_from(["current", "official"])),
        "policies": draw(st.lists(POLICIES, min_size=agents, max_size=agents)),
        "runs": 6, "seed": draw(st.integers(0, 2**32 - 1)),
    }  # fmt: skip
    if draw(st.booleans()):
        params |= {"experiment": "newcomer", "newcomer_month": draw(st.integers(1, 4))}
    return SimulateParams(**params)


def batch_of(params, hosts=1):
    return simulate_runs(params, np.arange(params.runs), local_hosts(params, hosts))


many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@given(societies())
def test_every_month_follows_the_rules(params):
    batch, membership = batch_of(params), conditions_of(params).membership
    for run in range(params.runs):
        played = batch.played[run]
        assert 1 <= played <= params.months
        assert batch.before[run, 0] == params.start
        for month in range(played):
            before, after = batch.before[run, month], batch.after[run, month]
            wanted, got = batch.demanded[run, month], batch.granted[run, month]
            assert (got <= wanted).all()
            assert before - after == got.sum()
            if params.order == "concurrent":
                assert got.sum() == min(wanted.sum(), before)
            assert not got[membership.present(month) :].any()
        stocks = list(zip(batch.before[run, :played], batch.after[run, :played], strict=True))
        for (_, after), (before, _) in pairwise(stocks):
            assert after >= params.collapse_below
            assert before == min(params.capacity, params.growth * after)
        assert played == params.months or stocks[-1][1] < params.collapse_below


@many
@given(societies(), st.integers(2, 4))
def test_hosts_and_neighbours_change_no_run(params, hosts):
    batch = batch_of(params)
    spread = batch_of(params, hosts)
    alone = simulate_runs(params, np.array([4]), local_hosts(params))
    for name, values in vars(batch).items():
        np.testing.assert_array_equal(values, getattr(spread, name))
        np.testing.assert_array_equal(values[4:5], getattr(alone, name))


def plain_metrics(params, batch, run):
    """The formulas as the paper prints them, one run at a time, in plain Python."""
    months, n = params.months, params.agents
    first = params.newcomer_month if params.joins_late else 0
    played = int(batch.played[run])
    after = batch.after[run, :played].tolist()
    granted, wanted = batch.granted[run, :played].tolist(), batch.demanded[run, :played].tolist()
    dead = [month for month, left in enumerate(after, start=1) if left < params.collapse_below]
    gains = [sum(month[i] for month in granted[first:]) for i in range(n)]
    best = (months - first) * max(
        x for x in range(params.start + 1) if params.growth * (params.start - x) >= params.start
    )
    total = sum(gains)
    present = [n - (params.joins_late and month < first) for month in range(played)]
    thr = batch.threshold[run].tolist()
    pairs = [(month, i) for month in range(played) for i in range(present[month])]
    over = sum(granted[month][i] > thr[month] for month, i in pairs)
    over_wanted = sum(wanted[month][i] > thr[month] for month, i in pairs)
    spread = sum(abs(a - b) for a in gains for b in gains)
    return {
        "survival_time": dead[0] if dead else months,
        "survived": not dead,
        "gain": total / n,
        "efficiency": 1 - max(0, best - total) / best if best and played > first else np.nan,
        "equality": 1 - spread / (2 * n * total) if total else np.nan,
        "over_usage": over / len(pairs),
        "over_usage_demanded": over_wanted / len(pairs),
        "over_usage_published": over / (len(pairs) + int(batch.utterances[run].sum())),
    }


@many
@given(societies())
def test_the_metrics_are_the_papers_formulas(params):
    batch = batch_of(params)
    measured = measure(batch, conditions_of(params))._asdict()
    for run in range(params.runs):
        for name, expected in plain_metrics(params, batch, run).items():
            assert measured[name][run] == pytest.approx(expected, nan_ok=True), name


@many
@given(societies())
def test_the_monthly_gini_counts_the_agents_present(params):
    batch, conditions = batch_of(params), conditions_of(params)
    gini = monthly_gini(batch, conditions)
    for run in range(params.runs):
        for month in range(batch.played[run]):
            grants = sorted(batch.granted[run, month, : conditions.membership.present(month)].tolist())
            n, total = len(grants), sum(grants)
            weighted = sum((2 * i - n - 1) * x for i, x in enumerate(grants, start=1))
            expected = weighted / (n * total) if total else np.nan
            assert gini[run, month] == pytest.approx(expected, nan_ok=True)
