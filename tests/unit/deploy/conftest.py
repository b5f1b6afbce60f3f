"""The manifests as `kubectl kustomize` renders them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[3] / "deploy"
OVERLAYS = ("local", "gpu", "ha")
Manifest = dict[str, Any]


def kubectl() -> str | None:
    """From TENFOLD_KUBECTL, else PATH."""
    return os.environ.get("TENFOLD_KUBECTL") or shutil.which("kubectl")


@cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    """Every object of an overlay. Skips where there is no kubectl."""
    program = kubectl()
    if program is None:
        pytest.skip("no kubectl: set TENFOLD_KUBECTL or put one on PATH")
    folder = DEPLOY / "kubernetes" / "overlays" / overlay
    done = subprocess.run([program, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # deprecations too
    return tuple(yaml.safe_load_all(done.stdout))


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    return rendered(request.param)


@pytest.fixture
def pods(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    return dict(pods_of(manifests))


def pods_of(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """(name, pod template) of everything that makes pods."""
    for one in manifests:
        name, spec = f"{one['kind']}/{one['metadata']['name']}", one.get("spec", {})
        if "template" in spec:
            yield name, spec["template"]
        elif "jobTargetRef" in spec:
            yield name, spec["jobTargetRef"]["template"]
        elif "headGroupSpec" in spec:
            yield f"{name}/head", spec["headGroupSpec"]["template"]
            for group in spec["workerGroupSpecs"]:
                yield f"{name}/{group['groupName']}", group["template"]


def containers_of(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] == kind]
