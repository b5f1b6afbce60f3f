"""`python -m services.reconciler`: run the loop until SIGTERM."""

import signal
import threading

import structlog

from services.reconciler.loop import Reconciler
from shared.artifacts import ArtifactStore
from shared.jobs.store import JobStore
from shared.settings import Settings


def main() -> None:
    """Reconcile until told to stop."""
    settings = Settings()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ]
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    store = JobStore.connect(settings.redis)
    Reconciler(store, ArtifactStore(settings.artifact_root), settings).run(stop)


if __name__ == "__main__":
    main()
