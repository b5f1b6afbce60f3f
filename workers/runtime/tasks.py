"""One Celery task per kind, all with the same body: `deliver`.

Flower tells the truth: a failed job's task raises after the commit, a cancelled one shows REVOKED, a dropped
duplicate is ignored.
"""

from typing import Any

from celery import shared_task
from celery.exceptions import Ignore

from shared.jobs.catalog import catalog
from shared.jobs.states import JobState
from workers.runtime.child import runtime
from workers.runtime.delivery import deliver


class JobFailed(Exception):
    """The job ended as failed; its record says why."""


def split_task_id(task_id: str) -> tuple[str, int]:
    """(job id, attempt) of `<job id>.<attempt>`."""
    job_id, _, attempt = task_id.rpartition(".")
    return job_id, int(attempt)


def run_task(task: Any) -> str:
    """The body of every kind's task."""
    job_id, attempt = split_task_id(task.request.id)
    state = deliver(job_id, attempt, runtime(), task.request.get("traceparent"))
    match state:
        case None:
            raise Ignore
        case JobState.FAILED:
            raise JobFailed(job_id)
        case JobState.CANCELLED:
            task.send_event("task-revoked", terminated=False, signum=None, expired=False)
            raise Ignore
    return str(state)


for _kind in catalog():
    shared_task(bind=True, name=_kind, throws=(JobFailed,))(run_task)
