"""`manifest.json`: what made a result.

Nothing in it depends on clock, host or attempt, so equal jobs have equal ones.
"""

import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

from shared.jobs.context import TIMINGS, Artifact
from shared.jobs.record import JobRecord
from shared.jobs.spec import JobSpec

_LIBRARIES = ("tenfold", "numpy", "scipy", "torch", "transformers", "openvino", "faiss-cpu", "ray", "pydantic")


def manifest_of(
    spec: JobSpec | None,
    record: JobRecord,
    params: dict[str, Any],
    inputs: dict[str, str],
    artifacts: tuple[Artifact, ...],
) -> dict[str, Any]:
    """Kind, params, seed, versions, input digests, artifact digests."""
    measured = spec.measured if spec else ()
    return {
        "kind": record.kind,
        "kind_version": spec.version if spec else record.kind_version,
        "params": params,
        "seed": params.get("seed"),
        "threads": record.threads,
        "versions": dict(versions()),
        "machine": platform.machine(),
        "inputs": dict(sorted(inputs.items())),
        "measured": list(measured),
        "artifacts": [
            {"name": a.name, "media_type": a.media_type, "bytes": a.bytes, "sha256": a.sha256}
            for a in artifacts
            if a.name != TIMINGS and a.name not in measured
        ],
    }


@lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """Python and the installed libraries that results may depend on, whether this process has loaded them yet or not:
    a job that was killed and went on elsewhere leaves the same manifest."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return MappingProxyType(found)
