"""`python -m services.reconciler`: run the loop until SIGTERM."""

import signal
import threading

from services.reconciler.loop import Reconciler
from shared.artifacts import ArtifactStore
from shared.jobs.store import JobStore
from shared.logs import configure_logs
from shared.settings import Settings


def main() -> None:
    """Reconcile until told to stop."""
    settings = Settings()
    configure_logs(settings.log_level)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    store = JobStore.connect(settings.redis)
    Reconciler(store, ArtifactStore(settings.artifact_root), settings).run(stop)


if __name__ == "__main__":
    main()
