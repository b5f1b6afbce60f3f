"""The annotation service with a switch: `$TENFOLD_DATA/die` names the moment of its next append at which it is killed.

`before`: nothing is written yet; `after`: the event is written, its answer not sent. Gunicorn's parent goes first.
"""

import os
import signal
from pathlib import Path

from flask import Flask

from services.annotation import app as service
from services.annotation import server
from shared.artifacts import ArtifactStore

for _name in (*server.__all__, "bind", "worker_class", "workers", "threads"):
    globals()[_name] = getattr(server, _name)
wsgi_app = "tests.dying_annotation:create_app()"


def create_app() -> Flask:
    switch = Path(os.environ["TENFOLD_DATA"]) / "die"
    put_new = ArtifactStore.put_new

    def dying(self: ArtifactStore, key: str, data: bytes) -> None:
        moment = switch.read_text() if switch.exists() else ""
        if moment == "before":
            _die()
        put_new(self, key, data)
        if moment == "after":
            _die()

    ArtifactStore.put_new = dying  # type: ignore[method-assign]
    return service.create_app()


def _die() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
