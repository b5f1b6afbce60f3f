"""Agent hosts: addressable agents, memory, and a Ray cluster that changes nothing."""

import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest

from shared.jobs.catalog.govsim import SimulateParams
from shared.jobs.errors import Retryable
from shared.jobs.local import LocalContext
from shared.settings import Settings
from tests.ray_head import ray_head
from workers.govsim.hosts import AgentHost, HarvestCall, local_hosts, open_hosts, seats_of
from workers.govsim.jobs import simulate
from workers.govsim.society import simulate_runs

MIXED = [
    {"type": "threshold"}, {"type": "random", "low": 5, "high": 14}, {"type": "tit_for_tat"},
    {"type": "greedy", "factor": 1.1}, {"type": "tit_for_tat"},
    {"type": "random", "low": 0, "high": 1, "unit": "threshold"}, {"type": "replay", "demands": [9, 3]},
]  # fmt: skip
SOCIETY = {"agents": 7, "policies": MIXED, "runs": 40, "capacity": 140}


class ClusterContext(LocalContext):
    """A folder again, but of a worker that belongs to a cluster."""

    local = False


def call(month, stock, threshold, **more):
    return HarvestCall(month, np.array(stock), np.array(threshold), **more)


def test_agents_are_dealt_out_to_hosts_in_turn():
    seats = seats_of(SimulateParams(**SOCIETY), 3)
    assert [[seat.agent for seat in own] for own in seats] == [[0, 3, 6], [1, 4], [2, 5]]


def test_no_host_stays_empty():
    assert len(seats_of(SimulateParams(agents=2), 8)) == 2


def test_an_agent_can_be_asked_by_its_number():
    params = SimulateParams(agents=3, policies=[{"type": "fixed", "quantity": q} for q in (1, 2, 3)])
    host = AgentHost(seats_of(params, 1)[0], params.seed)
    host.open(np.array([0, 1]))
    assert host.ask(1, call(0, [100, 80], [10, 8])).tolist() == [2, 2]


def test_agents_remember_last_months_grants_and_threshold():
    params = SimulateParams(agents=2, policies=[{"type": "tit_for_tat"}, {"type": "fixed", "quantity": 12}])
    host = AgentHost(seats_of(params, 1)[0], params.seed)
    host.open(np.array([0, 1, 2]))
    host.harvest(call(0, [100] * 3, [10] * 3))
    # run 1 ended; agent 1 was granted 12 in run 0 and 10, not above thr, in run 2
    second = call(1, [90, 90], [9, 9], kept=np.array([0, 2]), granted=np.array([[10, 12], [10, 10]]))
    assert host.harvest(second).tolist() == [[12, 12], [9, 12]]


def test_a_new_chunk_starts_with_empty_memories():
    params = SimulateParams(agents=2, policies=[{"type": "tit_for_tat"}, {"type": "fixed", "quantity": 50}])
    host = AgentHost(seats_of(params, 1)[0], params.seed)
    for _ in range(2):
        host.open(np.array([0]))
        assert host.harvest(call(0, [100], [25])).tolist() == [[25, 50]]
        host.harvest(call(1, [50], [12], granted=np.array([[25, 50]])))


def test_a_month_is_one_message_per_host():
    pool, sent = local_hosts(SimulateParams(**SOCIETY), 3), []
    for handle in pool._handles:
        handle.send = lambda method, message, send=handle.send: (sent.append(method), send(method, message))[1]
    batch = simulate_runs(SimulateParams(**SOCIETY), np.arange(40), pool)
    assert sent == ["open"] * 3 + ["harvest"] * (3 * batch.played.max())


@pytest.mark.parametrize("order", ["concurrent", "sequential"])
@pytest.mark.parametrize("hosts", [2, 3, 7])
def test_the_number_of_hosts_in_a_process_changes_nothing(hosts, order):
    params = SimulateParams(**SOCIETY, order=order)
    one, many = (simulate_runs(params, np.arange(40), local_hosts(params, count)) for count in (1, hosts))
    for name, values in vars(one).items():
        np.testing.assert_array_equal(values, getattr(many, name), err_msg=name)


def test_a_newcomer_lives_on_any_host():
    params = SimulateParams(experiment="newcomer", policies={"type": "tit_for_tat"})
    one, many = (simulate_runs(params, np.arange(5), local_hosts(params, count)) for count in (1, 5))
    np.testing.assert_array_equal(one.granted, many.granted)


def test_zero_hosts_keep_the_agents_in_the_worker(tmp_path):
    with open_hosts(ClusterContext(tmp_path), SimulateParams(), Settings(ray_hosts=0)) as pool:
        assert pool.harvest(call(0, [100], [10])).tolist() == [[10] * 5]


# On Ray -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray_address():
    if importlib.util.find_spec("ray") is None:  # not imported: a head must be entered before
        pytest.skip("Ray is not installed")
    with ray_head() as address:
        yield address


def results_of(folder, ctx_type, **params):
    """Every artifact of a simulation but its timings, by name."""
    ctx = ctx_type(folder)
    result = simulate(SimulateParams(**params), ctx)
    ctx.close()
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != "timings.jsonl"}
    return result, files


@pytest.mark.parametrize("order", ["concurrent", "sequential"])
def test_one_host_three_hosts_and_no_cluster_give_the_same_bytes(ray_address, tmp_path, monkeypatch, order):
    monkeypatch.setenv("TENFOLD_RAY_ADDRESS", ray_address)
    expected = results_of(tmp_path / "local", LocalContext, **SOCIETY, order=order)
    for hosts in ("1", "3"):
        monkeypatch.setenv("TENFOLD_RAY_HOSTS", hosts)
        assert results_of(tmp_path / hosts, ClusterContext, **SOCIETY, order=order) == expected


def ask_until_gone(host):
    """A kill takes a moment to arrive."""
    import ray

    for _ in range(100):
        ray.get(host.harvest.remote(call(0, [100], [10])), timeout=10)
        time.sleep(0.1)


def test_hosts_are_gone_when_the_job_ends_and_the_process_stays_attached(ray_address, tmp_path):
    import ray

    settings = Settings(ray_address=ray_address, ray_hosts=2)
    with open_hosts(ClusterContext(tmp_path), SimulateParams(), settings) as pool:
        assert pool.harvest(call(0, [100], [10])).tolist() == [[10] * 5]
        hosts = [handle._actor for handle in pool._handles]
    assert ray.is_initialized()
    for host in hosts:
        with pytest.raises(ray.exceptions.RayActorError):
            ask_until_gone(host)
    with open_hosts(ClusterContext(tmp_path), SimulateParams(), settings) as pool:
        assert pool.harvest(call(0, [100], [10])).tolist() == [[10] * 5]


def test_a_lost_host_is_retryable(ray_address, tmp_path):
    import ray

    settings = Settings(ray_address=ray_address, ray_hosts=2)

    def lose_one():
        with open_hosts(ClusterContext(tmp_path), SimulateParams(), settings) as pool:
            ray.kill(pool._handles[1]._actor)
            pool.harvest(call(0, [100], [10]))

    with pytest.raises(Retryable, match="agent host"):
        lose_one()
    assert not ray.is_initialized()
