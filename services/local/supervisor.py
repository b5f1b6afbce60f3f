"""`supervisord`: its configuration file, and talking to it over its Unix socket.

SIGTERM reaches a program's main process only; what is left of its process group after the time to stop is killed.
"""

import os
import resource
import shlex
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterable
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from services.local.layout import SOURCE, Layout
from services.local.programs import STAGES, Program, stopping_stage

WANTED_FILES = 8192
"""Open files per process: a gateway process holds up to 640 streams and as many Redis connections."""


class ProcessState(NamedTuple):
    """What supervisord says of one process."""

    name: str
    group: str
    state: str  # RUNNING, STARTING, BACKOFF, FATAL, EXITED, STOPPED, STOPPING
    pid: int
    says: str
    started: float = 0.0
    """Seconds since the epoch."""


def render(layout: Layout, programs: Iterable[Program]) -> str:
    """The configuration file."""
    programs = list(programs)
    user = "user = root\n" if os.getuid() == 0 else ""
    head = f"""\
[supervisord]
pidfile = {_escaped(layout.supervisor_pid)}
logfile = {_escaped(layout.logs / "supervisord.log")}
logfile_maxbytes = 5MB
logfile_backups = 2
childlogdir = {_escaped(layout.logs)}
directory = {_escaped(layout.data)}
minfds = {_open_files()}
{user}
[unix_http_server]
file = {_escaped(layout.supervisor_socket)}
chmod = 0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    return "\n".join([head, *_groups(programs), *(_section(layout, program) for program in programs)])


def _groups(programs: list[Program]) -> list[str]:
    members: dict[str, list[str]] = {}
    for program in programs:
        members.setdefault(program.group, []).append(program.name)
    return [
        f"[group:{group}]\nprograms = {','.join(names)}\npriority = {STAGES - stopping_stage(names[0])}\n"
        for group, names in members.items()
    ]


def _section(layout: Layout, program: Program) -> str:
    environment = {"TENFOLD_PROCESS": program.name} | program.environment
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in environment.items())
    return f"""\
[program:{program.name}]
command = {_escaped(shlex.join(program.command))}
environment = {pairs}
autostart = {"true" if program.is_essential else "false"}
autorestart = true
startsecs = 1
startretries = 20
stopwaitsecs = {program.stop_s}
stopasgroup = false
killasgroup = true
redirect_stderr = true
stdout_logfile = {_escaped(_escaped(layout.logs / f"{program.name}.log"))}
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 2
"""


def _escaped(value: str | Path) -> str:
    """supervisord expands %(…)s everywhere, and twice in the names of log files."""
    return str(value).replace("%", "%%")


def _open_files() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)


def environment_of(layout: Layout) -> dict[str, str]:
    """What every process of the cluster inherits: the caller's environment, but the cluster's own places."""
    kept = {name: value for name, value in os.environ.items() if name not in {"TENFOLD_URL", "TENFOLD_TOKEN"}}
    home = kept.get("HOME")
    if home and "HF_HOME" not in kept:  # models the user has already fetched stay where they are
        kept["HF_HOME"] = str(Path(home) / ".cache" / "huggingface")
    path = os.pathsep.join(filter(None, (str(SOURCE), kept.get("PYTHONPATH"))))
    own = {"TENFOLD_DATA": layout.data, "TENFOLD_PROCESS": "supervisord", "HOME": layout.home, "TMPDIR": layout.scratch}
    # SPT_NOENV: a process that sets its title (Ray's do) leaves the environment alone by which `down` knows it.
    fixed = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "SPT_NOENV": "1"}
    return kept | {name: str(value) for name, value in own.items()} | fixed


def start(layout: Layout) -> None:
    """Start supervisord, detached. It holds none of the caller's descriptors; early complaints go to a log file."""
    with (layout.logs / "supervisord.start.log").open("wb") as complaints:
        subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(layout.supervisor_conf)],
            stdin=subprocess.DEVNULL, stdout=complaints, stderr=complaints, env=environment_of(layout),
            cwd=layout.data, start_new_session=True, check=True, timeout=30,
        )  # fmt: skip


class _SocketConnection(HTTPConnection):
    """HTTP over supervisord's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=15)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self.path))
        except OSError:
            self.sock.close()
            raise


class _SocketTransport(xmlrpc.client.Transport):
    _connection: tuple[Any, HTTPConnection | None]

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._connection = None, None

    def make_connection(self, host: Any) -> HTTPConnection:
        """One connection, kept where `close` finds it."""
        connection = self._connection[1] or _SocketConnection(self.path)
        self._connection = host, connection
        return connection


class Supervisor:
    """The running supervisord of one cluster. Its calls raise OSError when there is none."""

    def __init__(self, layout: Layout) -> None:
        self._transport = _SocketTransport(layout.supervisor_socket)
        self._rpc: Any = xmlrpc.client.ServerProxy("http://localhost/RPC2", self._transport).supervisor

    def pid(self) -> int | None:
        """Its process id; None when none answers."""
        try:
            return int(self._rpc.getPID())
        except (OSError, xmlrpc.client.Error):
            return None

    def processes(self) -> list[ProcessState]:
        return [
            ProcessState(
                info["name"], info["group"], info["statename"], info["pid"], info["description"], info["start"]
            )
            for info in self._rpc.getAllProcessInfo()
        ]

    def call(self, method: str, *arguments: Any) -> Any:
        """Any call of its interface, with the connection closed afterwards."""
        try:
            return getattr(self._rpc, method)(*arguments)
        finally:
            self._transport.close()

    def start_process(self, state: ProcessState) -> None:
        """Start one that doesn't run; being started already is fine."""
        with suppress(xmlrpc.client.Fault):
            self._rpc.startProcess(f"{state.group}:{state.name}", False)

    def stop_process(self, state: ProcessState) -> None:
        """Ask one to stop, and kill it when its time is over; being stopped already is fine."""
        with suppress(xmlrpc.client.Fault):
            self._rpc.stopProcess(f"{state.group}:{state.name}", False)

    def adopt_configuration(self) -> None:
        """Read the file again: new groups start, changed ones restart, those that are gone stop."""
        added, changed, removed = self._rpc.reloadConfig()[0]
        for group in (*changed, *removed):
            self._rpc.stopProcessGroup(group)
            self._rpc.removeProcessGroup(group)
        for group in (*added, *changed):
            self._rpc.addProcessGroup(group)
