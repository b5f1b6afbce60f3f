"""The Celery worker: one per pool and machine, spawn children, and a warden in its main process.

python -m workers worker --pool gpu [--slots 1] [--name gpu-b]
"""

import logging
import os
import socket
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from billiard.util import LOGGER_NAME
from celery import Celery, bootsteps, signals

from shared import tracing
from shared.broker import make_app
from shared.jobs.store import JobStore
from shared.logs import configure_logs, json_handler
from shared.settings import Settings
from workers.runtime.child import open_child
from workers.runtime.kernels import seed_triton
from workers.runtime.tasks import split_task_id
from workers.runtime.warden import Warden


@signals.worker_process_init.connect
def _child_started(**_: Any) -> None:
    open_child()


@signals.worker_process_shutdown.connect
def _child_ends(**_: Any) -> None:
    tracing.flush()


@signals.setup_logging.connect
def _logs_are_ours(**_: Any) -> None:
    """Celery sets up no logging where somebody answers this signal."""


class ChildWatch(bootsteps.StartStopStep):  # type: ignore[misc]
    """Looks for dead children twice a second; Celery's own timer does so every five seconds."""

    requires = frozenset({"celery.worker.components:Timer", "celery.worker.components:Pool"})

    def start(self, parent: Any) -> None:
        parent.timer.call_repeatedly(0.5, parent.pool.maintain_pool)


def make_worker_app(settings: Settings, pool: str) -> Celery:
    """The app with every kind's task in it."""
    app = make_app(settings.redis, pool)
    app.conf.update(include=["workers.app", "workers.runtime.tasks"])
    app.steps["worker"].add(ChildWatch)
    return app


def run_worker(
    pool: str, slots: int, name: str | None, settings: Settings, exit_when_idle_s: float | None = None
) -> None:
    """Serve one pool until SIGTERM, or until it had no job for `exit_when_idle_s`.

    Two workers of one pool on one machine need different names."""
    name = f"{name or pool}@{socket.gethostname()}"
    os.environ |= {"TENFOLD_WORKER": name, "TENFOLD_POOL": pool}  # for the children
    tracing.name_service(f"tenfold-worker-{pool}")
    configure_logs(settings.log_level)
    _hear_billiard()
    seed_triton()
    warden = Warden(name, pool, slots, settings, JobStore.connect(settings.redis))
    warden.exit_when_idle_s = exit_when_idle_s
    _connect(warden)
    app = make_worker_app(settings, pool)
    app.worker_main(
        [
            "--quiet", "worker", f"--queues={pool}", f"--hostname={name}", f"--concurrency={slots}", "--pool=prefork",
            "--pool-start-method=spawn", "--without-gossip", "--without-mingle", f"--loglevel={settings.log_level}",
        ]
    )  # fmt: skip


def _hear_billiard() -> None:
    """How children end is a line like all others: billiard's logger hands nothing on, and prints without a handler."""
    logger = logging.getLogger(LOGGER_NAME)
    logger.handlers = [json_handler()]
    logger.setLevel(logging.WARNING)


def _connect(warden: Warden) -> None:
    """Celery's signals of the main process, to the warden. `weak=False`: nobody else holds these functions."""

    def failed(exception: BaseException | None = None, **_: Any) -> None:
        if isinstance(exception, WorkerLostError | TimeLimitExceeded):
            warden.child_lost()

    def unknown(name: str = "", id: str = "", **_: Any) -> None:
        warden.store.decline(*split_task_id(id))

    signals.worker_init.connect(lambda **_: warden.start(), weak=False)
    signals.task_failure.connect(failed, weak=False)
    signals.task_unknown.connect(unknown, weak=False)
    signals.worker_shutting_down.connect(lambda **_: warden.stopping(), weak=False)
    signals.worker_shutdown.connect(lambda **_: warden.leave(), weak=False)
