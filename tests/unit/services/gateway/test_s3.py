"""Artifacts of a gateway whose store is an S3 service: small ones through it, large ones from the service itself."""

import json
from pathlib import Path

import httpx
import pytest

from shared.artifacts import PRESIGN_FROM_BYTES
from shared.settings import Settings
from tests.s3_server import BUCKET, CREDENTIALS

LARGE = b"0123456789abcdef" * (PRESIGN_FROM_BYTES // 16)
LIFECYCLE = json.loads((Path(__file__).parents[4] / "deploy/s3/lifecycle.json").read_text())


@pytest.fixture
def settings(redis_url, tmp_path, monkeypatch, s3_url):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return Settings(redis_url=redis_url, data=tmp_path / "data", artifacts=f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def job(submit, worker):
    job_id = submit()
    worker.run(job_id, small_txt=b"small", large_bin=LARGE)
    return f"/v1/jobs/{job_id}/artifacts"


def test_a_large_artifact_is_fetched_from_the_service_by_a_url_that_needs_no_token(api, job):
    answer = api.get(f"{job}/large.bin")
    assert answer.status_code == 307
    fetched = httpx.get(answer.headers["Location"], trust_env=False)
    assert (fetched.status_code, fetched.content == LARGE) == (200, True)


def test_a_range_of_a_large_artifact_is_the_services_to_serve(api, job):
    where = api.get(f"{job}/large.bin", headers={"Range": "bytes=16-19"}).headers["Location"]
    part = httpx.get(where, headers={"Range": "bytes=16-19"}, trust_env=False)
    assert (part.status_code, part.content) == (206, b"0123")


def test_the_url_of_a_large_artifact_is_signed_and_runs_out(api, job):
    where = httpx.URL(api.get(f"{job}/large.bin").headers["Location"])
    named = {name.lower() for name in where.params}
    assert {"signature", "expires"} <= named or {"x-amz-signature", "x-amz-expires"} <= named
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in where.params.get("Signature", "")


def test_a_small_artifact_and_its_ranges_come_through_the_gateway(api, job):
    whole, part = api.get(f"{job}/small.txt"), api.get(f"{job}/small.txt", headers={"Range": "bytes=1-2"})
    assert (whole.status_code, whole.data) == (200, b"small")
    assert (part.status_code, part.data) == (206, b"ma")


def test_a_gateway_is_ready_over_s3_and_not_when_the_bucket_is_gone(api, parts):
    assert api.get("/readyz").status_code == 200
    parts.artifacts.root = "there-is-no-such-bucket/x"
    assert api.get("/readyz").status_code == 503


def test_the_service_takes_the_lifecycle_rules(s3_url):
    boto3 = pytest.importorskip("boto3", reason="moto brings it")
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_url, **keys)
    client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=LIFECYCLE)
    rules = client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert [rule["ID"] for rule in rules] == [rule["ID"] for rule in LIFECYCLE["Rules"]]
