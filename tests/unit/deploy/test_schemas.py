"""What Kubernetes and the operators say an object must look like."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CUSTOM = ("keda.sh/", "monitoring.coreos.com/", "ray.io/")


def is_custom(manifest: dict[str, Any]) -> bool:
    return manifest["apiVersion"].startswith(CUSTOM)


def test_core_objects_are_what_kubernetes_knows(manifests):
    validator = pytest.importorskip("kubernetes_validate", reason="needs the PyPI package kubernetes-validate")
    core = [one for one in manifests if not is_custom(one)]
    assert core
    for one in core:
        validator.validate(one, "1.34", strict=True)


def test_custom_resources_are_what_their_operators_know(manifests, real_data_root):
    schemas = _schemas(real_data_root / "crds")
    for one in filter(is_custom, manifests):
        key = (one["apiVersion"], one["kind"])
        assert key in schemas, key
        errors = [f"{'/'.join(map(str, e.path))}: {e.message}" for e in schemas[key].iter_errors(one)]
        assert not errors, (one["kind"], one["metadata"]["name"], errors)


def test_a_misspelt_field_of_a_custom_resource_is_found(real_data_root):
    """The check itself: an API server would drop the field without a word."""
    schema = _schemas(real_data_root / "crds")["keda.sh/v1alpha1", "ScaledObject"]
    wrong = {"scaleTargetRef": {"name": "x"}, "triggers": [], "minReplicaCuont": 1}
    assert [e.message for e in schema.iter_errors({"spec": wrong})]


def _schemas(folder: Path) -> dict[tuple[str, str], jsonschema.Draft202012Validator]:
    """Validators by apiVersion and kind. Skips where the definitions are absent."""
    if not folder.is_dir():
        pytest.skip(f"no custom resource definitions in {folder}; set TENFOLD_REAL_DATA")
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        for definition in filter(None, yaml.load_all(path.read_text(), yaml.CSafeLoader)):
            group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
            for version in definition["spec"]["versions"]:
                schema = _closed(version["schema"]["openAPIV3Schema"])
                schema["properties"].update({name: True for name in ("apiVersion", "kind", "metadata")})
                found[f"{group}/{version['name']}", kind] = jsonschema.Draft202012Validator(schema)
    return found


def _closed(schema: Any) -> Any:
    """No fields but those it names, unless it says so; numbers may stand where Kubernetes takes them for texts."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    names_fields = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    return closed | {"additionalProperties": False} if names_fields and not is_open else closed
