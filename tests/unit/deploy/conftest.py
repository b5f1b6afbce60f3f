"""The manifests as `kubectl kustomize` renders them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[3] / "deploy"
OVERLAYS = ("local", "gpu", "ha", "everything")
"""`everything` is made here: `ha` with the components that no overlay has of itself."""
OPTIONAL = ("models", "tracing")
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
    with _folder(overlay) as folder:
        done = subprocess.run([program, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # deprecations too
    return tuple(yaml.safe_load_all(done.stdout))


@contextmanager
def _folder(overlay: str) -> Iterator[Path]:
    """As an operator would write it, in a folder of his own."""
    shipped = DEPLOY / "kubernetes"
    if overlay != "everything":
        yield shipped / "overlays" / overlay
        return
    with TemporaryDirectory() as own:
        there = os.path.relpath(shipped, Path(own).resolve())
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "tenfold",
            "resources": [f"{there}/overlays/ha"],
            "components": [f"{there}/components/{name}" for name in OPTIONAL],
        }
        (Path(own) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        yield Path(own)


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
