import os
import subprocess
import sys

import pytest

from services.local import processes

WAITS = "import time; print(flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
NOTES_ITS_END = (
    "import signal, sys, time\n"
    "def end(*_):\n"
    "    time.sleep({delay}); open({path!r}, 'a').write('{name} '); sys.exit()\n"
    "signal.signal(signal.SIGTERM, end); print(flush=True); time.sleep(60)"
)
WITH_A_CHILD = (
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], env={}, start_new_session=True)\n"
    "print(flush=True); time.sleep(60)"
)


@pytest.fixture
def begin(layout):
    """Start a Python program as a process of the cluster, or of another one."""
    started = []

    def begin(program, role="worker-cpu", data=None):
        environment = os.environ | {"TENFOLD_DATA": str(data or layout.data), "TENFOLD_PROCESS": role}
        command = [sys.executable, "-c", program]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True)
        process.stdout.readline()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def pids(layout):
    return {process.pid for process in processes.own_processes(layout)}


def test_a_process_belongs_to_the_cluster_whose_folder_it_carries(layout, begin, tmp_path):
    mine, another = begin(WAITS), begin(WAITS, data=tmp_path / "another")
    assert mine.pid in pids(layout)
    assert another.pid not in pids(layout)


def test_a_person_who_has_exported_the_folder_is_no_process_of_it(layout):
    with subprocess.Popen(["/bin/sleep", "60"], env=os.environ | {"TENFOLD_DATA": str(layout.data)}) as shell:
        assert shell.pid not in pids(layout)
        shell.kill()


def test_children_that_have_lost_their_environment_belong_to_it_too(layout, begin):
    begin(WITH_A_CHILD)
    assert len(pids(layout)) == 2
    processes.kill(layout)
    assert pids(layout) == set()


def test_ending_asks_before_it_kills(layout, begin, tmp_path):
    begin(NOTES_ITS_END.format(delay=0, path=str(tmp_path / "order"), name="polite"))
    begin(STUBBORN)
    processes.end(layout, grace_s=0.5)
    assert (tmp_path / "order").read_text() == "polite "
    assert pids(layout) == set()


def test_workers_end_before_the_redis_they_report_to(layout, begin, tmp_path):
    order = tmp_path / "order"
    for delay, name in ((0.0, "redis"), (0.2, "gateway"), (0.4, "worker-cpu")):
        begin(NOTES_ITS_END.format(delay=delay, path=str(order), name=name), role=name)
    processes.end(layout, grace_s=5)
    assert order.read_text().split() == ["worker-cpu", "gateway", "redis"]
