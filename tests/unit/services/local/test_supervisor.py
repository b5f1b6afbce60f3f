import os
import sys

import pytest
from supervisor.options import ServerOptions

from services.local.layout import Layout
from services.local.programs import Program, programs
from services.local.supervisor import Supervisor, environment_of, render


def understood(layout, text, monkeypatch):
    """What supervisord itself reads in the file."""
    layout.supervisor_conf.write_text(text)
    monkeypatch.setattr(sys, "argv", ["supervisord"])
    options = ServerOptions()
    options.realize(["-c", str(layout.supervisor_conf)])
    options.process_config(do_usage=False)
    return options


@pytest.fixture
def odd(tmp_path):
    """A folder whose name has all that a configuration file could trip over."""
    layout = Layout(tmp_path / "100% of 'my' data; it's ok")
    layout.prepare()
    yield layout
    layout.sockets.rmdir()


def test_supervisord_reads_back_what_was_meant(odd, monkeypatch):
    program = Program("p", ["/bin/echo", "100%", "two words", "it's"], environment={"KEY": "50% x"}, stop_s=7)
    options = understood(odd, render(odd, [program]), monkeypatch)
    (group,) = options.process_group_configs
    (process,) = group.process_configs
    assert (group.name, group.priority, process.name, process.stopwaitsecs) == ("p", 2, "p", 7)
    assert process.environment == {"TENFOLD_PROCESS": "p", "KEY": "50% x"}
    assert process.stdout_logfile == str(odd.logs / "p.log")
    assert options.pidfile == str(odd.supervisor_pid)


def test_a_workers_group_is_asked_by_its_main_process_alone(settings, layout, monkeypatch):
    text = render(layout, programs(settings, layout, redteam=False))
    options = understood(layout, text, monkeypatch)
    workers = next(group for group in options.process_group_configs if group.name == "workers")
    assert len(workers.process_configs) >= 3
    assert not any(process.stopasgroup for process in workers.process_configs)
    assert all(process.autorestart is not False for process in workers.process_configs)


def test_groups_stop_workers_first_and_redis_last(settings, layout, monkeypatch):
    text = render(layout, programs(settings, layout, redteam=False))
    groups = sorted(understood(layout, text, monkeypatch).process_group_configs)
    assert groups[0].name == "redis"
    assert groups[-1].name == "workers"


def test_what_the_cluster_needs_first_starts_first(settings, layout, monkeypatch):
    text = render(layout, programs(settings, layout, redteam=False))
    groups = understood(layout, text, monkeypatch).process_group_configs
    waits = {process.name for group in groups for process in group.process_configs if not process.autostart}
    assert waits == {"ray", "flower", "annotation"}


def test_processes_get_a_home_of_the_clusters_own(layout, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("TENFOLD_TOKEN", "the caller's own")
    monkeypatch.delenv("HF_HOME", raising=False)
    environment = environment_of(layout)
    assert environment["HOME"] == str(layout.home)
    assert environment["TMPDIR"] == str(layout.scratch)
    assert environment["TENFOLD_DATA"] == str(layout.data)
    assert environment["HF_HOME"] == "/home/ada/.cache/huggingface"
    assert "TENFOLD_TOKEN" not in environment


@pytest.mark.parametrize("home", [None, ""])
def test_a_caller_without_a_home_is_fine(layout, monkeypatch, home):
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert "HF_HOME" not in environment_of(layout)


def test_nobody_answers_where_no_supervisor_runs(layout):
    assert Supervisor(layout).pid() is None
    layout.supervisor_socket.touch()
    assert Supervisor(layout).pid() is None
    os.unlink(layout.supervisor_socket)
