"""compose.yaml as text, and the whole of it in real containers."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from services.compose_bucket import make_bucket
from shared.artifacts import ArtifactStore

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
ONE_SHOT = ("secrets", "bucket")
IMAGES = sorted((ROOT / "deploy/images").glob("*.Dockerfile"))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_restricted(service):
    one = SERVICES[service]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert not one["user"].startswith("0:")
    assert one["restart"] == ("no" if service in ONE_SHOT else "unless-stopped")


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_waits_on_anothers_health(service):
    conditions = {name: wait["condition"] for name, wait in SERVICES[service].get("depends_on", {}).items()}
    assert conditions in ({}, {"secrets": "service_completed_successfully"})


def test_redis_and_workers_are_published_nowhere_and_all_else_on_loopback():
    ports = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert sorted(ports) == ["annotation", "flower", "gateway", "grafana"]
    assert all(re.fullmatch(r"\$\{\w+:-127\.0\.0\.1:\d+\}:\d+", port) for listed in ports.values() for port in listed)
    assert SERVICES["redis"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"]["internal"] is True


def test_the_default_profile_serves_every_pool():
    default = [one for one in SERVICES.values() if "profiles" not in one]
    commands = [one["command"] for one in default if "workers" in one.get("command", [])]
    assert {command[command.index("--pool") + 1] for command in commands} == {"cpu", "gpu", "sim"}


def test_a_gpu_is_reserved_by_its_profile():
    gpu = SERVICES["worker-gpu"]
    assert gpu["profiles"] == ["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_everything_that_stays_has_a_health_check_of_its_own_or_its_images():
    ours = {one["image"] for one in SERVICES.values() if one["image"].startswith("tenfold-")}
    assert len(ours) == len(IMAGES) - 1  # sim is for Kubernetes; each image has one, see below
    for name, one in SERVICES.items():
        assert "healthcheck" in one or name in ONE_SHOT or one["image"] in ours, name
        if "gunicorn" not in one.get("command", ["gunicorn"]) and "workers" not in one.get("command", []):
            assert "healthcheck" in one or name in ONE_SHOT, f"{name} would be asked as the gateway is"


def test_keys_of_model_endpoints_are_mounted_into_workers_only():
    for name, one in SERVICES.items():
        mounts = {mount.rsplit(":", 2)[1] for mount in one["volumes"]}
        assert ("/operator" in mounts) == name.startswith("worker-"), name
        assert ("TENFOLD_SECRETS" in one.get("environment", {})) == name.startswith("worker-"), name
    assert {"/operator/endpoints", "/operator/models"} <= {
        m.rsplit(":", 2)[1] for m in SERVICES["gateway"]["volumes"][2:4]
    }


def test_images_of_others_are_pinned():
    for one in SERVICES.values():
        if not one["image"].startswith("tenfold-"):
            assert re.search(r":v?\d[\w.-]*$", one["image"]), one["image"]


def test_a_stopping_worker_has_time_to_hand_back():
    for name, one in SERVICES.items():
        if name.startswith("worker-"):
            assert int(one["stop_grace_period"].removesuffix("s")) >= 25 + 10


def test_every_variable_of_the_compose_file_is_in_the_example():
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    said = set(re.findall(r"^#?(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used - {"AWS_DEFAULT_REGION"} == said - {"COMPOSE_PROFILES"}  # compose's own


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_is_built_in_two_stages_non_root_with_a_health_check_and_labels(path):
    build, final = path.read_text().split("\nFROM ${PYTHON}\n")
    assert "AS build" in build
    assert "--constraint constraints.txt" in build
    assert "pip install" not in final
    assert "USER 10001:10001" in final
    assert "HEALTHCHECK" in final
    assert "org.opencontainers.image.revision" in final
    assert "TENFOLD_DATA=/data" in final


def test_caches_of_kernels_and_models_lie_under_the_data_folder():
    for path in IMAGES:
        if path.stem.startswith("services"):
            continue
        text = path.read_text()
        for name in ("HF_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
            assert f"{name}=/data/cache/" in text, (path, name)


def test_secrets_are_made_once_and_kept(tmp_path):
    def make() -> dict[str, str]:
        command = [sys.executable, "-m", "services.compose_secrets", str(tmp_path), "/redis"]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    first = make()
    assert first == make()
    password = first["redis_password"]
    assert first["tenfold_redis_url"] == f"redis://:{password}@redis:6379/0"
    assert f"requirepass {password}\n" in first["redis.conf"]
    assert len({first[name] for name in ("redis_password", "tenfold_admin_token", "flower_password")}) == 3
    keys = json.loads(first["s3.json"])["identities"][0]["credentials"][0]
    assert f"aws_secret_access_key = {keys['secretKey']}\n" in first["aws_credentials"]
    readable = {path.name for path in tmp_path.iterdir() if path.stat().st_mode & 0o077}
    assert readable == {"grafana_password"}


@pytest.fixture
def bucket_store(monkeypatch, tmp_path):
    """A store in a bucket that is not there yet, with keys from a file, as compose gives them."""
    from s3fs import S3FileSystem

    def at(url: str) -> ArtifactStore:
        S3FileSystem.clear_instance_cache()
        (tmp_path / "aws_credentials").write_text(
            "[default]\naws_access_key_id = testing\naws_secret_access_key = testing\n"
        )
        settings = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_DEFAULT_REGION": "us-east-1"}
        settings |= {"AWS_ENDPOINT_URL": url, "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "aws_credentials")}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        return ArtifactStore("s3://made-on-first-use/artifacts")

    return at


def test_the_bucket_of_the_s3_profile_is_made_once_and_kept(s3_url, bucket_store):
    store = bucket_store(s3_url)
    assert make_bucket(store)
    store.put_bytes("x", b"kept")
    assert make_bucket(store)
    assert store.get_bytes("x") == b"kept"


def test_the_bucket_waits_for_its_service(bucket_store, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    waited = []
    assert not make_bucket(bucket_store("http://127.0.0.1:1"), waited.append, tries=2)
    assert len(waited) == 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_default_profile_holds_its_promises_in_real_containers():
    found = filter(shutil.which, ("docker", "podman"))
    if not any(subprocess.run([name, "info"], capture_output=True).returncode == 0 for name in found):
        pytest.skip("neither docker nor podman answers")
    done = subprocess.run([sys.executable, str(ROOT / "deploy/check.py")], cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
