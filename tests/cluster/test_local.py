"""The embedded cluster as a person meets it: up, down, status, and everything that can go wrong in between."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from services.local import processes
from tests.cluster.embedded import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SUPERVISED = ("redis", "gateway", "worker-cpu", "reconciler", "flower")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_every_process_becomes_healthy_and_status_ends_with_0(cluster):
    eventually(cluster.is_healthy)
    done = cluster.run("status")
    assert done.returncode == 0
    assert "unhealthy" not in done.stdout
    assert str(cluster.base) in done.stdout


def test_up_twice_leaves_everything_as_it_is(cluster):
    eventually(cluster.is_healthy)
    before = {name: line["pid"] for name, line in cluster.status().items()}
    cluster.up()
    assert {name: line["pid"] for name, line in cluster.status().items()} == before


def test_every_process_carries_the_clusters_folder_in_its_environment(cluster):
    eventually(cluster.is_healthy)
    supervisord = psutil.Process(cluster.pid("supervisord"))
    family = [supervisord, *supervisord.children(recursive=True)]
    assert len(family) > len(SUPERVISED)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            assert process.environ().get("TENFOLD_DATA") == str(cluster.layout.data), process.cmdline()


def test_the_servers_listen_on_loopback_and_on_their_own_ports_only(cluster):
    eventually(cluster.is_healthy)
    own = {process.pid for process in cluster.processes()}
    listening = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in own]
    assert {c.laddr.port for c in listening} <= set(range(cluster.base, cluster.base + 40))
    outside = {c.laddr.port for c in listening if not c.laddr.ip.startswith("127.")}
    assert outside <= set(range(cluster.base + 10, cluster.base + 40))  # Ray's, which ask for a token


@pytest.mark.parametrize("name", [*SUPERVISED, "ray"])
def test_a_killed_process_comes_back_by_itself(cluster, name):
    eventually(lambda: cluster.is_healthy(name))
    before = cluster.pid(name)
    kill(before)
    eventually(lambda: cluster.is_healthy(name) and cluster.pid(name) != before)


def test_when_the_supervisor_is_killed_status_says_so_and_up_mends_it(cluster):
    eventually(lambda: cluster.is_healthy("redis", "gateway"))
    redis = cluster.pid("redis")
    kill(cluster.pid("supervisord"))
    eventually(lambda: not cluster.is_healthy("supervisord"))
    said = cluster.run("status")
    assert said.returncode == 1
    assert "./tenfold up" in " ".join(said.stdout.split())
    assert (cluster.pid("redis"), cluster.is_healthy("redis", "gateway")) == (redis, True)
    assert "without supervisord" in cluster.status()["gateway"]["says"]
    remains = [process.pid for process in cluster.processes()]
    cluster.up()
    assert not any(psutil.pid_exists(pid) for pid in remains)
    assert cluster.is_healthy("supervisord", "redis", "gateway")


def test_two_ups_at_once_make_one_cluster(other):
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "services.local", "up"], env=other.environment, stdout=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    assert [command.wait(120) for command in commands] == [0, 0]
    assert sum(processes.role_of(process) == "supervisord" for process in other.processes()) == 1


def test_two_clusters_live_side_by_side_and_stale_files_of_one_do_no_harm(cluster, other):
    eventually(lambda: cluster.is_healthy(*SUPERVISED))
    before = {name: cluster.pid(name) for name in SUPERVISED}
    other.layout.prepare()
    other.layout.supervisor_pid.write_text(f"{os.getpid()}\n")  # a living process that isn't ours to end
    other.layout.supervisor_socket.touch()
    other.up()
    eventually(other.is_healthy)
    assert cluster.is_healthy(*SUPERVISED)
    other.down()
    assert other.processes() == []
    assert {name: cluster.pid(name) for name in SUPERVISED} == before
    assert list(other.home.iterdir()) == []


def test_down_leaves_nothing_even_without_a_supervisor(other):
    other.up()
    kill(other.pid("supervisord"))
    other.down()
    assert other.processes() == []
    assert not other.layout.supervisor_socket.exists()


def test_down_of_nothing_is_fine(other):
    assert "was not running" in other.run("down").stdout


@pytest.mark.parametrize(
    "offset", [pytest.param(0, id="gateway"), pytest.param(3, id="redis"), pytest.param(10, id="ray")]
)
def test_a_taken_port_is_named_with_its_holder_and_the_remedy_and_nothing_starts(other, offset):
    with socket.create_server(("127.0.0.1", other.base + offset)):
        done = other.run("up")
    assert done.returncode == 1
    assert f"port {other.base + offset}" in done.stderr
    assert f"(process {os.getpid()})" in done.stderr
    assert "TENFOLD_PORT_BASE" in done.stderr
    assert done.stderr.count("\n") == 1
    assert other.processes() == []


def test_a_folder_that_cannot_be_made_is_one_sentence(other):
    other.layout.data.write_text("a file where the folder should be")
    done = other.run("up")
    assert done.returncode == 1
    assert "can't be written to" in done.stderr
    assert "TENFOLD_DATA" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_full_disk_is_one_sentence_and_nothing_starts(other):
    other.layout.data.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", other.layout.data], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system can't be mounted here")
    try:
        done = other.run("up")
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert done.stderr.count("\n") == 1
        assert other.processes() == []
    finally:
        subprocess.run(["umount", other.layout.data], check=True)


def test_a_setting_that_makes_no_sense_is_named(other):
    other.settings["TENFOLD_KEEP_DAYS"] = "-1"
    done = other.run("up")
    assert done.returncode == 2
    assert "TENFOLD_KEEP_DAYS" in done.stderr


def test_other_settings_restart_only_what_they_concern(cluster):
    eventually(lambda: cluster.is_healthy(*SUPERVISED))
    before = {name: cluster.pid(name) for name in SUPERVISED}
    cluster.up("--redteam")
    after = {name: cluster.pid(name) for name in SUPERVISED}
    assert {name for name in SUPERVISED if before[name] != after[name]} == {"gateway", "worker-cpu"}
    assert "redteam" in cluster.run("me", module="services.cli").stdout
    cluster.up()
    assert "redteam" not in cluster.run("me", module="services.cli").stdout


def test_nothing_was_written_to_home(cluster):
    assert list(cluster.home.iterdir()) == []
