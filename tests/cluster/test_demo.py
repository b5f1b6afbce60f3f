"""`./tenfold demo` on real clusters."""

import signal
import subprocess
import sys
import time

import pytest

from tests.cluster.embedded import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


def test_the_demo_on_a_running_cluster_shows_the_tour_and_leaves_it_running(cluster):
    done = cluster.run("demo")
    assert done.returncode == 0, done.stdout
    for words in ("govsim.analyse", "survival time, months", "greedy ×5", cluster.url, str(cluster.layout.logs)):
        assert words in done.stdout.replace("\n", "")
    assert "down` stops it" in done.stdout
    assert cluster.is_healthy("supervisord", "gateway", "redis")


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
