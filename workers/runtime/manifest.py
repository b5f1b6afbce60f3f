"""`manifest.json`:

what made a result. Nothing in it depends on clock, host or attempt, so equal jobs have equal ones.
"""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from shared.jobs.context import TIMINGS, Artifact
from shared.jobs.record import JobRecord
from shared.jobs.spec import JobSpec

_LIBRARIES = ("numpy", "scipy", "torch", "transformers", "ray", "pydantic")


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
        "versions": versions(),
        "machine": platform.machine(),
        "inputs": dict(sorted(inputs.items())),
        "measured": list(measured),
        "artifacts": [
            {"name": a.name, "media_type": a.media_type, "bytes": a.bytes, "sha256": a.sha256}
            for a in artifacts
            if a.name != TIMINGS and a.name not in measured
        ],
    }


def versions() -> dict[str, str]:
    """Python and the libraries loaded in this process that results depend on."""
    loaded = {"python": platform.python_version()}
    for name in ("tenfold", *_LIBRARIES):
        if name == "tenfold" or name in sys.modules:
            try:
                loaded[name] = version(name)
            except PackageNotFoundError:
                loaded[name] = "unknown"
    return loaded
