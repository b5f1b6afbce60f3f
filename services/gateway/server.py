"""How gunicorn serves the gateway: `gunicorn --config python:services.gateway.server`.

Flags and GUNICORN_CMD_ARGS override what stands here.
"""

import gc
import os
from pathlib import Path
from typing import Any

from shared.settings import Settings

_settings = Settings()

wsgi_app = "services.gateway.app:create_app()"
bind = f"{f'[{_settings.host}]' if ':' in _settings.host else _settings.host}:{_settings.ports.gateway}"
logger_class = "services.gateway.json_logs.JsonLogger"
worker_class = "services.gateway.worker_class.ProblemWorker"
limit_request_line = 8190  # a listing may filter by sixteen labels
workers = 2
threads = 640
"""An open event stream holds one thread for its life. Processes take connections as they come, so one of them may get
nearly all of 500 streams: it must have threads left for calls. They are made on demand; an idle gateway has few."""
graceful_timeout = 3  # open streams would hold a stopping process for as long as it is allowed to take
timeout = 120
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Request metrics start from nothing with the server, not with each of its processes."""
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for file in Path(folder).glob("*.db"):
            file.unlink()


def child_exit(server: Any, worker: Any) -> None:
    """A process that ended leaves its counts and nothing else."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def post_worker_init(worker: Any) -> None:
    """What was loaded lives as long as the process: looking for garbage in it costs every few requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
