"""From a kind to its entry function. A method's module is imported when its first job arrives: imports cost seconds."""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from shared.jobs.catalog import find
from shared.jobs.context import JobContext

Entry = Callable[[Any, JobContext], Any]


@cache
def entry_of(kind: str) -> Entry:
    """`run(params, ctx) -> Result` of a kind. Raises NotFound, ImportError."""
    module, _, function = find(kind).entry_point.partition(":")
    entry: Entry = getattr(importlib.import_module(module), function)
    return entry
