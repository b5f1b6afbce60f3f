"""Sweeps: the product of a grid and seeds."""

import pytest

from shared.jobs.errors import BadRequest, NotFound
from shared.jobs.states import JobState
from shared.jobs.sweeps import MAX_JOBS, Sweeps, expand
from tests.unit.jobs.lives import BY, new_job

PRODUCTS = [
    pytest.param({"a": 1}, {}, None, [{"a": 1}], id="nothing-varied"),
    pytest.param({"a": 1}, {"a": [2, 3]}, None, [{"a": 2}, {"a": 3}], id="one-axis"),
    pytest.param({}, {"a": [1, 2], "b": ["x", "y"]}, None,
                 [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}],
                 id="last-axis-fastest"),
    pytest.param({}, {"a": [1, 2]}, [7, 8], [{"a": 1, "seed": 7}, {"a": 1, "seed": 8}, {"a": 2, "seed": 7},
                                             {"a": 2, "seed": 8}], id="seeds"),
    pytest.param({"p": [{"q": 1}, {"q": 2}]}, {"p.1.q": [5]}, None, [{"p": [{"q": 1}, {"q": 5}]}], id="into-a-list"),
    pytest.param({}, {"p.q": [5]}, None, [{"p": {"q": 5}}], id="makes-the-way"),
    pytest.param({}, {"a": [[], {}]}, None, [{"a": []}, {"a": {}}], id="empty-values"),
]  # fmt: skip


@pytest.mark.parametrize(("params", "grid", "seeds", "jobs"), PRODUCTS)
def test_the_product_is_every_combination_in_order(params, grid, seeds, jobs):
    assert list(expand(params, grid, seeds)) == jobs


REFUSALS = [
    pytest.param({}, {"a": []}, None, "grid.a is empty", id="empty-axis"),
    pytest.param({}, {"seed": [1]}, [1], "name it once", id="seed-twice"),
    pytest.param({}, {"a": list(range(MAX_JOBS + 1))}, None, "1001 jobs; at most 1000", id="too-many"),
    pytest.param({"p": 3}, {"p.q": [1]}, None, "'p.q' leads nowhere", id="through-a-number"),
    pytest.param({"p": [1]}, {"p.1": [1]}, None, "'p.1' leads nowhere", id="beyond-a-list"),
    pytest.param({"p": [1]}, {"p.x": [1]}, None, "'p.x' leads nowhere", id="a-name-in-a-list"),
    pytest.param({"p": []}, {"p.0.q": [1]}, None, "'p.0.q' leads nowhere", id="through-an-empty-list"),
]


@pytest.mark.parametrize(("params", "grid", "seeds", "says"), REFUSALS)
def test_a_sweep_that_makes_no_sense_is_refused(params, grid, seeds, says):
    with pytest.raises(BadRequest, match=says) as refusal:
        list(expand(params, grid, seeds))
    assert refusal.value.errors


def test_combinations_share_nothing():
    one, two = expand({"p": {"q": [1]}}, {"a": [1, 2]}, None)
    one["p"]["q"].append(2)
    assert two["p"]["q"] == [1]


def test_a_sweep_tells_its_jobs_and_their_states(lives):
    about = {"kind": "test.noop", "grid": '{"a":[1,2,3]}', "labels": '{"l":"1"}'}
    submitted = lives.store.submit_sweep([new_job()] * 3, about, BY)
    sweeps = Sweeps(lives.store)
    sweep = sweeps.find(submitted.id)
    assert (sweep.owner, sweep.kind, sweep.name, sweep.seeds) == ("ann", "test.noop", None, None)
    assert (sweep.labels, sweep.grid) == ({"l": "1"}, {"a": [1, 2, 3]})
    assert sweeps.jobs(submitted.id) == list(submitted.jobs)
    lives.end(submitted.jobs[0])
    states = sweeps.states(submitted.id)
    assert (states["succeeded"], states["queued"], sum(states.values())) == (1, 2, 3)
    assert lives.record(submitted.jobs[0]).sweep == submitted.id


def test_sweeps_are_listed_newest_first_in_pages(lives):
    ids = [lives.store.submit_sweep([new_job()], {"kind": "test.noop"}, BY).id for _ in range(5)]
    page, cursor = Sweeps(lives.store).page(2, None)
    assert page == ids[:2:-1]
    page, cursor = Sweeps(lives.store).page(2, cursor)
    assert page == ids[2:0:-1]
    assert Sweeps(lives.store).page(2, cursor) == (ids[:1], None)


def test_an_unknown_sweep_is_not_found(lives):
    with pytest.raises(NotFound):
        Sweeps(lives.store).find("X")


def test_every_state_is_counted(lives):
    assert set(Sweeps(lives.store).states("X")) == set(JobState)
