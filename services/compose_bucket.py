"""`python -m services.compose_bucket`: makes the bucket of TENFOLD_ARTIFACTS, once its service answers."""

import sys
import time
from collections.abc import Callable

import structlog

from shared.artifacts import ArtifactStore
from shared.logs import configure_logs
from shared.settings import Settings

EVERY_S = 2.0
TRIES = 300

log = structlog.get_logger()


def make_bucket(store: ArtifactStore, wait: Callable[[float], None] = time.sleep, tries: int = TRIES) -> bool:
    """Whether the bucket is there now. Without one (artifacts in a folder) there is nothing to do."""
    if store.is_local:
        log.info("artifacts lie in a folder: no bucket to make")
        return True
    bucket = store.root.partition("/")[0]
    for _ in range(tries):
        try:
            if not store.fs.exists(bucket):
                store.fs.mkdir(bucket)
            log.info("the bucket is there", bucket=bucket)
            return True
        except Exception as error:  # whatever a file system may raise
            log.warning("the S3 service does not answer yet", error=str(error))
            wait(EVERY_S)
    return False


if __name__ == "__main__":
    settings = Settings()
    configure_logs(settings.log_level)
    sys.exit(0 if make_bucket(ArtifactStore(settings.artifact_root)) else 1)
