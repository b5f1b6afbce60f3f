"""JSON lines on stderr, each with what it is about."""

import logging

import structlog


def configure_logs(level: str) -> None:
    """structlog to JSON; the bound names (`job_id`, `attempt`, `kind`) are the same in every process."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        cache_logger_on_first_use=True,
    )
