"""Gunicorn's own words as JSON lines, like everybody else's."""

from typing import Any

from gunicorn.glogging import Logger

from shared.logs import json_handler


class JsonLogger(Logger):  # type: ignore[misc]
    """What gunicorn says of its processes and of requests it couldn't parse."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers = [json_handler()]
