"""Who is there when, and what the threshold is shared among."""

import numpy as np
import pytest

from shared.jobs.catalog.govsim import SimulateParams
from workers.govsim.commons import Membership, commons_of, membership_of, threshold_rule_of


@pytest.mark.parametrize(("month", "present"), [(0, 4), (2, 4), (3, 5), (14, 5)])
def test_a_newcomer_is_present_from_its_month_on(month, present):
    assert membership_of(SimulateParams(experiment="newcomer")).present(month) == present


@pytest.mark.parametrize("experiment", ["default", "universalization", "no_communication"])
def test_without_a_newcomer_everyone_is_there_from_the_start(experiment):
    membership = membership_of(SimulateParams(experiment=experiment))
    assert membership.present(0) == 5
    assert [membership.joined(agent) for agent in range(5)] == [0] * 5


def test_only_the_last_agent_joins_late():
    assert [Membership(5, 3).joined(agent) for agent in range(5)] == [0, 0, 0, 0, 3]


def test_the_resource_has_the_rules_of_the_params():
    commons = commons_of(SimulateParams(capacity=60, start=30, growth=3, collapse_below=2))
    assert (commons.capacity, commons.start, commons.growth, commons.collapse_below) == (60, 30, 3, 2)
    np.testing.assert_array_equal(commons.grow(np.array([0, 10, 20, 59])), [0, 30, 60, 60])
    np.testing.assert_array_equal(commons.has_collapsed(np.array([0, 1, 2, 3])), [True, True, False, False])


@pytest.mark.parametrize(
    ("params", "thresholds"),
    [
        pytest.param({}, [10, 10, 10], id="five"),
        pytest.param({"agents": 7}, [7, 7, 7], id="seven"),
        pytest.param({"agents": 7, "threshold_agents": "official"}, [10, 7, 7], id="official-seven-begin-with-10"),
        pytest.param({"growth": 4}, [15, 15, 15], id="fourfold-growth-75-by-5"),
    ],
)
def test_the_threshold_of_a_full_lake(params, thresholds):
    rule = threshold_rule_of(SimulateParams(**params))
    assert [int(rule.per_agent(np.array([100]), month)[0]) for month in range(3)] == thresholds
