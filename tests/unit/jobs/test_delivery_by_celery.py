"""An ordinary Celery worker consumes what the submit script pushed: the message form is Celery's own."""

import os
import subprocess
import sys
import time

import pytest

from shared.broker import Messages, make_app, queue_key
from shared.jobs.catalog import catalog
from shared.jobs.record import Priority
from shared.jobs.store import JobStore, NewJob, Submission

SPEC = catalog()["govsim.simulate"]
STOCK_WORKER = """
import sys
from celery import Celery
import redis
url, priority_steps = sys.argv[1], [0, 3, 6]
app = Celery("stock", broker=url)
app.conf.broker_transport_options = {"sep": ":", "priority_steps": priority_steps, "queue_order_strategy": "priority"}
app.conf.worker_prefetch_multiplier = 1

@app.task(name="govsim.simulate", bind=True)
def simulate(self, *args, **kwargs):
    seen = f"{self.request.id} {self.request.retries} {self.request.delivery_info['priority']} {args} {kwargs}"
    redis.Redis.from_url(url).rpush("seen", seen)

app.worker_main(["worker", "--pool=solo", "--queues=sim", "--without-gossip", "--without-mingle", "--loglevel=ERROR"])
"""


@pytest.fixture
def store(redis_url):
    store = JobStore.connect(redis_url)
    yield store
    store.redis.close()


def submit(store, messages, priority):
    message, queue = messages.template(SPEC, priority), queue_key(SPEC.pool, priority)
    new = NewJob(SPEC.kind, SPEC.version, SPEC.pool, "{}", message, queue, priority)
    return store.submit(new, Submission("ann")).id


@pytest.fixture
def messages(redis_url):
    app = make_app(redis_url)
    yield Messages(app)
    app.close()


def test_a_stock_worker_takes_the_messages_in_order_of_priority(store, messages, redis_url):
    low, normal, high = (
        submit(store, messages, priority) for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH)
    )
    code = [sys.executable, "-c", STOCK_WORKER, redis_url]
    worker = subprocess.Popen(code, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    try:
        deadline = time.monotonic() + 60
        while store.redis.llen("seen") < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        worker.terminate()
        worker.wait(20)
    seen = store.redis.lrange("seen", 0, -1)
    assert seen == [f"{id}.1 0 {step} () {{}}" for id, step in ((high, 0), (normal, 3), (low, 6))]
    assert store.redis.hlen("unacked") == 0


def test_the_reconciler_reads_the_publish_number_of_a_real_message(store, messages):
    first, second = (submit(store, messages, Priority.NORMAL) for _ in range(2))
    assert store.republish("sim:3", patience_s=0) == []
    store.redis.rpop("sim:3")
    assert store.republish("sim:3", patience_s=0) == [first]
    assert f'"id": "{second}.1"' in store.redis.lindex("sim:3", -1)


def test_two_processes_make_the_same_message(messages, redis_url):
    other = make_app(redis_url)
    assert Messages(other).template(SPEC, Priority.NORMAL) == messages.template(SPEC, Priority.NORMAL)
    other.close()
