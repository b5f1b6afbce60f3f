"""`./tenfold demo` on real clusters."""

import signal
import subprocess
import sys
import time

import pytest

from services.local.tour import stops
from tests.cluster.embedded import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


def test_the_demo_on_a_running_cluster_shows_the_tour_and_leaves_it_running(cluster):
    done = cluster.run("demo", "govsim")
    assert done.returncode == 0, done.stdout
    for words in ("govsim.analyse", "survival time, months", "greedy ×5", cluster.url, str(cluster.layout.logs)):
        assert words in done.stdout.replace("\n", "")
    assert "down` stops it" in done.stdout
    assert cluster.is_healthy("supervisord", "gateway", "redis")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_tour_ends_well_the_first_time_and_again(other):
    for _ in range(2):
        done = other.run("demo", timeout_s=400)
        assert done.returncode == 0, done.stdout
        for stop in stops():
            assert stop.title.partition(":")[0] in done.stdout
    assert other.processes() == []


def test_a_method_without_a_stop_is_refused_before_anything_starts(other):
    done = other.run("demo", "alchemy")
    assert done.returncode == 1
    assert "no stop of alchemy; it has: govsim" in " ".join(done.stderr.split())
    assert other.processes() == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "a closed session"])
def test_an_interrupted_demo_leaves_nothing_running(other, ending):
    demo = subprocess.Popen(
        [sys.executable, "-m", "services.local", "demo"], env=other.environment, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    eventually(lambda: other.is_healthy("gateway"))
    time.sleep(1)  # into the tour
    demo.send_signal(ending)
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Interrupted" in said
    assert other.processes() == []
