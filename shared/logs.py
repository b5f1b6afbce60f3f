"""JSON lines on stdout from every process: our own, and what libraries say through `logging`.

Lines about a job carry `job_id`, `attempt`, `kind`; where traces are on, `trace_id`.
"""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from shared import tracing


def configure_logs(level: str) -> None:
    """structlog and the root logger, both to JSON on stdout."""
    structlog.configure(
        processors=[*_common(), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
    )
    root = logging.getLogger()
    root.handlers = [json_handler()]
    root.setLevel(level)
    logging.captureWarnings(True)  # Python's warnings as lines like all others


def json_handler() -> logging.Handler:
    """Writes records of `logging` as the same JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_from_celery, *_common(), structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    return handler


def _common() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        *([tracing.add_trace_id] if tracing.is_on() else []),
    ]


def _from_celery(_: Any, __: str, event: EventDict) -> EventDict:
    """Celery says which task a record is about in `data`; ours are called like the kind, and `<job id>.<attempt>`."""
    about = getattr(event.get("_record"), "data", None)
    if isinstance(about, dict) and "." in str(about.get("id", "")):
        job_id, _, attempt = str(about["id"]).rpartition(".")
        number = int(attempt) if attempt.isdigit() else attempt
        event.update(job_id=job_id, attempt=number, kind=about.get("name"))
    return event
