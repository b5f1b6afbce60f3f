"""Every kind this process knows: one module per method beside this file, and packages with the entry point
`tenfold.kinds`.

Adding a method is adding a module here with a `KINDS` list; nothing else registers it.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from shared.jobs.errors import NotFound
from shared.jobs.spec import JobSpec


@cache
def catalog() -> MappingProxyType[str, JobSpec]:
    """All kinds by name, sorted. Raises ValueError when two declare the same name."""
    specs: dict[str, JobSpec] = {}
    for spec in (*_own(), *_installed()):
        if spec.kind in specs:
            raise ValueError(f"kind {spec.kind} is declared twice")
        specs[spec.kind] = spec
    return MappingProxyType(dict(sorted(specs.items())))


def find(kind: str) -> JobSpec:
    """The kind of that name, or NotFound with its nearest of kin."""
    try:
        return catalog()[kind]
    except KeyError:
        raise NotFound(f"there is no kind {kind!r}; known: {', '.join(catalog())}") from None


def pools() -> tuple[str, ...]:
    """Every pool some kind runs in."""
    return tuple(sorted({spec.pool for spec in catalog().values()} | {"cpu", "gpu", "sim"}))


def _own() -> Iterable[JobSpec]:
    for module in pkgutil.iter_modules(__path__):
        yield from importlib.import_module(f"{__name__}.{module.name}").KINDS


def _installed() -> Iterable[JobSpec]:
    for entry in sorted(entry_points(group="tenfold.kinds"), key=lambda e: e.name):
        yield from entry.load()
