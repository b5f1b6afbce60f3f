"""The tour: one module per method beside this file, each with a `STOP`. Adding a method is adding its module.

A stop uses the cluster as its users do, through the HTTP API.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from services.client import Job, Tenfold

Follow = Callable[[Sequence[Job]], list[Job]]
"""Shows the jobs' progress until all are final and gives them back finished, in the same order. Raises TourFailed."""


class TourFailed(Exception):
    """A job of the tour didn't succeed."""


class Row(NamedTuple):
    """One line of the table at the end: what was measured, of what."""

    subject: str
    measure: str
    value: str


@dataclass(frozen=True)
class Stop:
    """What one method shows. `run(tenfold, follow)` submits its jobs and gives what they measured."""

    method: str
    title: str
    run: Callable[[Tenfold, Follow], list[Row]]
    order: int = 100
    """Stops with lower numbers come first."""


def stops() -> list[Stop]:
    """Every stop, in the order of the tour."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return sorted((module.STOP for module in modules), key=lambda stop: (stop.order, stop.method))
