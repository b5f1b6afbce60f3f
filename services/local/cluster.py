"""Starting, stopping and looking at the embedded cluster. `Cluster` is the entry point.

`up` is the same whatever it finds: a cluster that runs (what is missing is started), the remains of one whose
supervisord was killed (ended first), nothing at all. Only one `up` or `down` works on a cluster at a time.
"""

import fcntl
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from services.local import health, ports, processes, redis_server
from services.local.errors import CannotStart
from services.local.layout import Layout
from services.local.programs import STAGES, Program, Redteam, programs, stopping_stage
from services.local.supervisor import ProcessState, Supervisor, render, start
from shared.sealed import make_key
from shared.settings import Settings

READY_S = 90
"""How long /readyz may take. Two seconds are usual; a machine under load, reading a large Redis, needs more."""
LAST_RESORT_S = 20
"""How much longer than its workers' grace supervisord may take before everything is killed."""
POLL_S = 0.1


class Cluster:
    """The cluster that the settings describe, running or not."""

    def __init__(self, settings: Settings, *, redteam: Redteam = False) -> None:
        self.settings = settings
        self.redteam = redteam or settings.redteam
        self.layout = Layout(settings.data.absolute())
        self.supervisor = Supervisor(self.layout)

    @cached_property
    def programs(self) -> list[Program]:
        return programs(self.settings, self.layout, redteam=self.redteam)

    @property
    def url(self) -> str:
        return health.gateway_url(self.settings)

    def is_supervised(self) -> bool:
        return self.supervisor.pid() is not None

    # Starting -----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Return once the gateway answers /readyz. Raises CannotStart."""
        self.layout.prepare()
        if self.redteam and self.settings.redteam_key is None:
            make_key(self.layout.redteam_key)
        if self.settings.redis_url:
            redis_server.check_reachable(self.settings.redis_url)
        with self._alone():
            if self.is_supervised():
                self._mend()
            else:
                self._start()
            self._wait_until_ready()
            self._start_all(self.supervisor.processes())

    def _start(self) -> None:
        self._end_remains()
        ports.check_free(self.programs)
        for stale in (self.layout.supervisor_pid, self.layout.supervisor_socket):
            stale.unlink(missing_ok=True)
        self._write_configuration()
        try:
            start(self.layout)
        except (subprocess.SubprocessError, OSError) as failure:
            said = _last_line(self.layout.logs / "supervisord.start.log") or str(failure)
            raise CannotStart(f"supervisord doesn't start: {said}") from failure
        self._wait_for(self.is_supervised, "supervisord")

    def _mend(self) -> None:
        """Bring a running cluster to these settings, and start what isn't running."""
        if self._write_configuration():
            self.supervisor.adopt_configuration()
        essential = {program.name for program in self.programs if program.is_essential}
        self._start_all([state for state in self.supervisor.processes() if state.name in essential])

    def _start_all(self, states: list[ProcessState]) -> None:
        for state in states:
            if state.state in {"FATAL", "EXITED", "STOPPED"}:
                self.supervisor.start_process(state)

    def _write_configuration(self) -> bool:
        """Write supervisord's file; say whether it changed."""
        text = render(self.layout, self.programs)
        path = self.layout.supervisor_conf
        if path.exists() and path.read_text() == text:
            return False
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)
        return True

    def _wait_until_ready(self) -> None:
        self._wait_for(lambda: self._none_gave_up() and health.is_ready(self.settings), "the gateway")

    def _none_gave_up(self) -> bool:
        """Raises CannotStart with the last words of an essential process that supervisord no longer restarts."""
        essential = {program.name for program in self.programs if program.is_essential}
        for state in self.supervisor.processes():
            if state.state == "FATAL" and state.name in essential:
                log = self.layout.logs / f"{state.name}.log"
                raise CannotStart(f"{state.name} ends as soon as it starts: {_last_line(log)} (see {log}).")
        return True

    def _wait_for(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_S
        while not is_so():
            if time.monotonic() > deadline:
                raise CannotStart(f"{what} isn't ready after {READY_S} s; its log lies in {self.layout.logs}.")
            time.sleep(POLL_S)

    # Stopping -----------------------------------------------------------------------------------------------------

    def down(self) -> bool:
        """Stop everything and return when every process is gone. False when nothing was running."""
        if not self.layout.data.is_dir():
            return False
        with self._alone():
            was_running = bool(processes.own_processes(self.layout))
            with suppress(OSError):  # there is no supervisord, or it dies meanwhile
                self._stop_in_order()
            self._end_remains()
            for stale in (self.layout.supervisor_pid, self.layout.supervisor_socket):
                stale.unlink(missing_ok=True)
            shutil.rmtree(self.layout.sockets, ignore_errors=True)
        return was_running

    def _stop_in_order(self) -> None:
        """Have supervisord stop its programs, stage by stage; it has nothing to do afterwards, and is killed."""
        for stage in range(STAGES):
            states = [state for state in self.supervisor.processes() if stopping_stage(state.name) == stage]
            for state in states:
                self.supervisor.stop_process(state)
            self._wait_until_stopped({state.name for state in states})
        processes.kill(self.layout)

    def _wait_until_stopped(self, names: set[str]) -> None:
        deadline = time.monotonic() + self.settings.stop_grace_s + LAST_RESORT_S
        while time.monotonic() < deadline:
            if not any(state.pid for state in self.supervisor.processes() if state.name in names):
                return
            time.sleep(POLL_S)

    def _end_remains(self) -> None:
        """End what a killed supervisord has left behind; there is nothing else after an orderly stop."""
        processes.end(self.layout, grace_s=self.settings.stop_grace_s + 3)

    # Looking ------------------------------------------------------------------------------------------------------

    def status(self) -> list[health.Health]:
        """One line per process, supervisord first."""
        if (pid := self.supervisor.pid()) is None:
            return self._status_of_remains()
        states = {state.name: state for state in self.supervisor.processes()}
        lines = [health.check(program, states.get(program.name), self.settings) for program in self.programs]
        return [health.Health("supervisord", pid, {}, True, "up"), *lines]

    def _status_of_remains(self) -> list[health.Health]:
        """What still runs after supervisord was killed, or nothing."""
        left = processes.main_processes(self.layout)
        mend = ", but its processes are: `./tenfold up` mends that, `./tenfold down` ends them" if left else ""
        lines = [
            health.check_orphan(program, left[program.name], self.settings)
            if program.name in left
            else health.check(program, None, self.settings)
            for program in self.programs
        ]
        return [health.Health("supervisord", None, {}, False, "not running" + mend), *lines]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One `up` or `down` of this cluster at a time; the next one waits."""
        with self.layout.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _last_line(log: Path) -> str:
    """The last thing a process said."""
    with suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""
    return ""
