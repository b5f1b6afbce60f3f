"""How gunicorn serves annotation: `gunicorn --config python:services.annotation.server`."""

from services.gateway.server import (
    child_exit,
    control_socket_disable,
    graceful_timeout,
    limit_request_line,
    logger_class,
    on_starting,
    post_worker_init,
    timeout,
)
from shared.settings import Settings

_settings = Settings()

wsgi_app = "services.annotation.app:create_app()"
bind = f"{f'[{_settings.host}]' if ':' in _settings.host else _settings.host}:{_settings.ports.annotation}"
worker_class = "services.gateway.worker_class.ProblemWorker"
workers = 1
threads = 16

__all__ = [  # gunicorn reads them here
    "child_exit",
    "control_socket_disable",
    "graceful_timeout",
    "limit_request_line",
    "logger_class",
    "on_starting",
    "post_worker_init",
    "timeout",
]
