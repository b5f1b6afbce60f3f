"""Artifact names are flat and short, so that they are the same on every store and in every URL."""

import re

from shared.jobs.errors import BadRequest

ARTIFACT_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
RESERVED = frozenset({"manifest.json", "log.txt", ".", ".."})  # written by the runtime


def check_name(name: str) -> str:
    """The name, if a method may write an artifact so called. Raises BadRequest."""
    if not ARTIFACT_NAME.match(name) or name in RESERVED:
        raise BadRequest(
            f"artifact name {name!r} must match [A-Za-z0-9._-]{{1,128}} and not be {', '.join(sorted(RESERVED))}"
        )
    return name


def pick(names: list[str], wanted: str) -> str | None:
    """The artifact called `wanted`, or the only one that is `wanted` plus an ending (`model` → `model.tar`)."""
    if wanted in names:
        return wanted
    with_ending = [name for name in names if name.startswith(wanted + ".")]
    return with_ending[0] if len(with_ending) == 1 else None
