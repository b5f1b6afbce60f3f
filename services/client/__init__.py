"""A typed Python client of the HTTP API. It knows the API and nothing else of Tenfold.

with Tenfold() as tenfold:
    job = tenfold.submit("govsim.simulate", {"policies": {"type": "threshold"}, "runs": 20})
    print(tenfold.wait(job.id).result)
"""

from services.client.client import Tenfold
from services.client.errors import (
    ClientError,
    Conflict,
    Damaged,
    Invalid,
    NotAllowed,
    NotFound,
    Problem,
    Refused,
    TimedOut,
    TooMany,
    Unavailable,
    Unreachable,
)  # fmt: skip
from services.client.models import (
    AllowedModel,
    Artifact,
    AuditEntry,
    AuditVerdict,
    Collected,
    Event,
    EventPage,
    Health,
    Job,
    JobError,
    Kind,
    Me,
    Progress,
    Queue,
    Reindexed,
    Sweep,
    Token,
    Uploaded,
)  # fmt: skip

__all__ = [
    "AllowedModel",
    "Artifact",
    "AuditEntry",
    "AuditVerdict",
    "ClientError",
    "Collected",
    "Conflict",
    "Damaged",
    "Event",
    "EventPage",
    "Health",
    "Invalid",
    "Job",
    "JobError",
    "Kind",
    "Me",
    "NotAllowed",
    "NotFound",
    "Problem",
    "Progress",
    "Queue",
    "Refused",
    "Reindexed",
    "Sweep",
    "Tenfold",
    "TimedOut",
    "Token",
    "TooMany",
    "Unavailable",
    "Unreachable",
    "Uploaded",
]
