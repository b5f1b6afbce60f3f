"""The peer of the gateway: a bare Flask application over plain Celery, as its documentation teaches.

The same module is the plain Celery worker of the whole way's peer: `celery -A tests.bench.bare_flask worker`.
"""

import os
from typing import Any

from celery import Celery
from flask import Flask, request

celery = Celery("bare", broker=os.environ["BARE_REDIS"], backend=os.environ["BARE_REDIS"])
celery.conf.task_ignore_result = os.environ.get("BARE_RESULTS") != "1"
app = Flask("bare")


@celery.task(name="bare.noop")  # type: ignore[untyped-decorator]
def noop(note: str) -> dict[str, Any]:
    return {"note": note}


@app.post("/jobs")
def submit() -> tuple[dict[str, str], int]:
    body = request.get_json()
    return {"id": noop.apply_async(kwargs=body["params"]).id}, 202
