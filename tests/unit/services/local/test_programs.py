import pytest

from services.local.programs import STAGES, address, programs, stopping_stage
from shared.jobs.catalog import pools
from shared.settings import Settings


@pytest.fixture
def found(settings, layout):
    return {program.name: program for program in programs(settings, layout, redteam=False)}


def test_there_is_one_worker_per_pool(found):
    assert {name for name in found if name.startswith("worker-")} == {f"worker-{pool}" for pool in pools()}


def test_workers_stop_first_and_redis_last(found):
    stages = {name: stopping_stage(name) for name in found}
    assert {name for name, stage in stages.items() if stage == 0} == {name for name in found if name[:6] == "worker"}
    assert {name for name, stage in stages.items() if stage == STAGES - 1} == {"redis"}


def test_workers_have_the_time_to_hand_back_and_some_more(found, settings):
    assert found["worker-sim"].stop_s > settings.stop_grace_s


def test_every_port_is_the_clusters_own_and_used_once(found):
    ports = [port for program in found.values() for port in program.ports.values()]
    assert len(ports) == len(set(ports))
    assert set(ports) <= set(range(20000, 20040))


def test_rays_workers_have_ports_of_their_own(found):
    command = found["ray"].command
    ends = [int(part.partition("=")[2]) for part in command if part.startswith(("--min-worker", "--max-worker"))]
    used = {port for program in found.values() for port in program.ports.values()}
    assert used.isdisjoint(range(ends[0], ends[1] + 1))
    assert ends[1] - ends[0] >= 15
    assert ends[1] < 20040


def test_only_ray_and_the_workers_on_it_know_its_token(found):
    knowing = {name for name, program in found.items() if "RAY_AUTH_TOKEN_PATH" in program.environment}
    assert knowing == {"ray", "worker-sim"}


def test_a_redis_and_a_ray_that_run_elsewhere_are_not_started(settings, layout):
    elsewhere = Settings(data=layout.data, redis_url="redis://elsewhere:6379/0", ray_address="elsewhere:6379")
    names = {program.name for program in programs(elsewhere, layout, redteam=False)}
    assert names.isdisjoint({"redis", "ray"})


@pytest.mark.parametrize("redteam", [True, False])
def test_only_the_gateway_is_told_of_redteam(settings, layout, redteam):
    told = {p.name for p in programs(settings, layout, redteam=redteam) if "TENFOLD_REDTEAM" in p.environment}
    assert told == ({"gateway"} if redteam else set())


@pytest.mark.parametrize(("redteam", "told"), [(True, "1"), ("stand_in", "stand_in")])
def test_the_gateway_and_the_gpu_worker_are_told_of_the_key(settings, layout, redteam, told):
    found = {program.name: program.environment for program in programs(settings, layout, redteam=redteam)}
    assert found["gateway"]["TENFOLD_REDTEAM"] == told
    knowing = {name: env["TENFOLD_REDTEAM_KEY"] for name, env in found.items() if "TENFOLD_REDTEAM_KEY" in env}
    assert knowing == dict.fromkeys(("gateway", "worker-gpu"), str(layout.redteam_key))


def test_a_key_that_the_operator_names_is_used(layout, tmp_path):
    named = Settings(data=layout.data, redteam_key=tmp_path / "own.key")
    found = {program.name: program.environment for program in programs(named, layout, redteam=True)}
    assert found["worker-gpu"]["TENFOLD_REDTEAM_KEY"] == str(tmp_path / "own.key")


@pytest.mark.parametrize(
    ("host", "expected"),
    [pytest.param("127.0.0.1", "127.0.0.1:80", id="IPv4"), pytest.param("::1", "[::1]:80", id="IPv6")],
)
def test_an_address_stands_as_in_a_url(host, expected):
    assert address(host, 80) == expected
