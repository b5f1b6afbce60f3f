"""`/v1/queues`: what each pool has waiting and running; what an autoscaler or a person needs."""

from flask import Response

from services.gateway.jobs import READ
from services.gateway.operations import Answer, Operation, Routes, answer_json
from services.gateway.state import gateway
from services.gateway.views import QueueList
from shared.jobs.catalog import pools
from shared.jobs.workers import WorkerList

routes = Routes()


@routes.add(Operation("GET", "/v1/queues", "queues", "Every pool's load", {200: Answer(QueueList)}, READ))
def list_queues() -> Response:
    workers = WorkerList(gateway().store)
    return answer_json({"items": [workers.status(pool)._asdict() for pool in pools()]})
