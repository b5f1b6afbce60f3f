"""The Celery app every process shares, and the message that a submit script pushes.

Celery delivers; it is not the record. So: early acks, no results, no prefetch, JSON only. A pool is a queue of three
Redis lists, one per priority (`gpu` high, `gpu:3` normal, `gpu:6` low). The message of a job carries its id, attempt
and publish number in headers only, so the scripts of the store can fill them in without touching JSON.
"""

from functools import lru_cache
from typing import Any

from celery import Celery
from kombu.entity import Queue
from kombu.utils.json import dumps

from shared import tracing
from shared.jobs.catalog import catalog, pools
from shared.jobs.record import Priority
from shared.jobs.spec import JobSpec
from shared.logs import configure_logs
from shared.sentinel import sentinel_of
from shared.settings import Settings

ATTEMPT, PUBLISH, JOB_ID, TRACE = "TENFOLD_ATTEMPT", "TENFOLD_PUBLISH", "TENFOLD_JOB_ID", "TENFOLD_TRACE"
"""Placeholders in a message; the store's scripts put the values in."""

STEPS = {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 6}  # 0 is the highest on Redis
CHILDS_FIRST_LINE = '{"event": "%(message)s", "level": "info", "timestamp": "%(asctime)s", "logger": "billiard"}'
"""What billiard says when a child has started, before any of our code runs there."""
TRANSPORT = {
    "sep": ":",  # printable list names
    "priority_steps": sorted(STEPS.values()),
    "queue_order_strategy": "priority",
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "retry_on_timeout": True,
}


def make_app(redis_url: str, pool: str | None = None) -> Celery:
    """A Celery app that knows every pool's queue and the transport options all parties must agree on.

    `pool` is one more, for a worker whose catalog has no kind of it: it hands back whatever comes.
    """
    sentinels = sentinel_of(redis_url)
    broker_url, asked = sentinels.broker() if sentinels else (redis_url, {})
    app = Celery("tenfold", broker=broker_url, set_as_current=True)
    app.conf.update(
        broker_transport_options=TRANSPORT | asked,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_queues=[Queue(pool, routing_key=pool) for pool in sorted({*pools(), *([pool] if pool else [])})],
        task_routes={spec.kind: {"queue": spec.pool} for spec in catalog().values()},
        task_create_missing_queues=False,
        task_default_queue="cpu",
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,
        task_send_sent_event=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_log_format=CHILDS_FIRST_LINE,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=True,
        event_queue_expires=60,
    )
    return app


def __getattr__(name: str) -> Any:
    """`celery -A shared.broker:app` (Flower) makes the app from the environment's settings; it logs like all others."""
    if name == "app":
        settings = Settings()
        configure_logs(settings.log_level)  # before Tornado, which leaves a root logger alone that has a handler
        return make_app(settings.redis)
    raise AttributeError(name)


def queue_key(pool: str, priority: Priority) -> str:
    """The Redis list of a pool and priority, as kombu names it."""
    step = STEPS[priority]
    return f"{pool}:{step}" if step else pool


def queue_keys() -> list[str]:
    """All lists there can be messages in."""
    return [queue_key(pool, priority) for pool in pools() for priority in Priority]


class Messages:
    """Builds the message of a job with Celery's own builder; one template per kind and priority is enough."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.template = lru_cache(maxsize=None)(self._template)

    def _template(self, spec: JobSpec, priority: Priority) -> str:
        """The wire form of a job's message, with placeholders for id, attempt and publish number."""
        app = self._app
        task_id = f"{JOB_ID}.{ATTEMPT}"
        task = app.amqp.as_task_v2(task_id, spec.kind, argsrepr="()", kwargsrepr=f"{{'job': '{JOB_ID}'}}")
        headers = {**task.headers, "tenfold_publish": PUBLISH, "ignore_result": True, "origin": "tenfold"}
        if tracing.is_on():
            headers["traceparent"] = TRACE
        with app.connection_for_write() as connection, connection.channel() as channel:
            body, content_type, encoding = _serialize(task.body)
            message = channel.prepare_message(
                body, STEPS[priority], content_type, encoding, headers, {**task.properties, "delivery_mode": 2}
            )
            channel._inplace_augment_message(message, "", spec.pool)
        message["properties"]["delivery_tag"] = f"{task_id}.{PUBLISH}"
        return str(dumps(message))


def _serialize(body: Any) -> tuple[str, str, str]:
    return dumps(body), "application/json", "utf-8"
