"""`/healthz`, `/readyz`, `/metrics`: for machines that watch. They need no token.

Metrics tell the cluster's truth, read from Redis at each scrape; request metrics are summed over the gateway's
processes.
"""

import os
import time
from functools import cache

import redis
import structlog
from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from services.gateway.metrics import ClusterTruth
from services.gateway.operations import Answer, Operation, Routes, answer_json
from services.gateway.problems import Problem
from services.gateway.state import gateway
from services.gateway.views import HealthView

log = structlog.get_logger()
routes = Routes()
LATENCY = Histogram(
    "tenfold_http_request_seconds",
    "HTTP requests, and the time until their answer began",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)


@routes.add(Operation("GET", "/healthz", "health", "Is the process alive?", {200: Answer(HealthView)}, is_open=True))
def healthz() -> Response:
    return answer_json({"status": "ok"})


@routes.add(
    Operation(
        "GET",
        "/readyz",
        "health",
        "Do Redis and the artifact store answer?",
        {200: Answer(HealthView)},
        (),
        (503,),
        is_open=True,
    )
)
def readyz() -> Response:
    try:
        gateway().store.redis.ping()
    except redis.RedisError as error:
        log.warning("not ready: Redis", error=str(error))
        raise Problem("unavailable", "Redis does not answer", headers={"Retry-After": "2"}) from None
    try:
        gateway().artifacts.check()
    except Exception as error:  # whatever a file system may raise; its words name paths, which are for the log
        log.warning("not ready: artifact store", error=str(error))
        raise Problem("unavailable", "the artifact store does not answer", headers={"Retry-After": "2"}) from None
    return answer_json({"status": "ok"})


@routes.add(
    Operation(
        "GET",
        "/metrics",
        "health",
        "Prometheus metrics",
        {200: Answer(None, "Text", ("text/plain",))},
        (),
        (503,),
        is_open=True,
    )
)
def metrics() -> Response:
    registry = CollectorRegistry()
    registry.register(ClusterTruth(gateway()))
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)
    else:
        registry.register(LATENCY)
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def observe(method: str, route: str, status: int, started: float) -> None:
    """Count and time a request. A stranger's words make no new series: `route` is one of ours, or none."""
    _latency(method, route, status).observe(time.perf_counter() - started)


@cache
def _latency(method: str, route: str, status: int) -> Histogram:
    return LATENCY.labels(method, route, str(status))
