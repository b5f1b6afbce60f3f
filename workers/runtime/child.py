"""What a pool child opens once: its own connections, after it was spawned, and a process group of its own."""

import multiprocessing
import os
from functools import cache

from shared import tracing
from shared.artifacts import ArtifactStore
from shared.jobs.store import JobStore, Worker
from shared.logs import configure_logs
from shared.settings import Settings
from workers.runtime.delivery import Runtime
from workers.runtime.processes import lead_group


def open_child() -> None:
    """Called when Celery has started this child."""
    lead_group()
    # Celery marks its children as daemons, which may have no children: data loaders and shards need some.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    tracing.name_service(f"tenfold-worker-{os.environ['TENFOLD_POOL']}")
    configure_logs(Settings().log_level)


@cache
def runtime() -> Runtime:
    """The connections this child runs jobs with."""
    settings = Settings()
    worker = Worker(
        name=os.environ["TENFOLD_WORKER"],
        pid=os.getpid(),
        lease_ttl_s=settings.lease_ttl_s,
        threads=int(os.environ.get("OMP_NUM_THREADS", "1")),
    )
    return Runtime(settings, JobStore.connect(settings.redis), ArtifactStore(settings.artifact_root), worker)
