"""Generated requests against a real gateway: its answers are what its OpenAPI document says, and none is a 5xx.

Schemathesis runs in its own process with every check it has, over all phases (examples, coverage of each schema's
edges, fuzzing, sequences along the document's links); a second run sends submits alone. No check is left out. One is
told more than the document can say (`EXPECTATIONS`): a JSON schema describes fields one by one, so a body that fits it
may still be refused with 422 because its fields contradict each other, or because a reference leads nowhere; and a list
with more items than allowed may make a body that is refused with 413 for its size alone.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from shared.artifacts import ArtifactStore
from shared.jobs.store import JobStore
from tests.cluster.finisher import finishing
from tests.gateway_server import GatewayServer, gateway_server
from tests.redis_server import redis_server

ADMIN_TOKEN = "tenfold_for_this_test_only"
COUNTED = re.compile(r'tenfold_http_request_seconds_count\{method="(\w+)",route="([^"]+)",status="(\d+)"\} (\d+)')

EXPECTATIONS = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429"]
negative_data_rejection.expected-statuses = [
    "400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"
]
"""


@pytest.fixture(params=["loopback", "token"])
def contract(request, tmp_path, kinds_path) -> Iterator[tuple[GatewayServer, str | None]]:
    """A gateway whose jobs come to an end, and the token to call it with, if any."""
    settings = {"auth": request.param, "admin_token": ADMIN_TOKEN}
    with redis_server() as redis, gateway_server(redis.url, tmp_path, kinds_path, **settings) as server:
        artifacts = ArtifactStore(str(tmp_path / "data" / "artifacts"))
        with finishing(JobStore.connect(redis.url), artifacts):
            yield server, ADMIN_TOKEN if request.param == "token" else None


class Size(NamedTuple):
    """How much is generated, and what must at least come of it."""

    options: tuple[str, ...]
    submits: int
    requests: int
    accepted: int


SMALL = Size(("--phases", "fuzzing,stateful", "--max-examples", "15"), submits=450, requests=500, accepted=50)
STATED = Size(("--max-examples", "8"), submits=3000, requests=2000, accepted=200)


@pytest.mark.parametrize(
    "size", [pytest.param(SMALL, id="small"), pytest.param(STATED, id="stated", marks=pytest.mark.slow)]
)
def test_generated_requests_get_the_answers_the_document_promises(contract, size, tmp_path):
    server, token = contract
    _schemathesis(server, tmp_path, token, *size.options)
    only_submits = ("--include-name", "POST /v1/jobs", "--phases", "fuzzing", "--mode", "positive")
    _schemathesis(server, tmp_path, token, *only_submits, "--max-examples", str(size.submits))
    answered = _answers(server)
    accepted = answered["POST", "/v1/jobs", 202]
    print(f"{answered.total()} requests, {accepted} accepted submits, by status: {_by_status(answered)}")
    assert not [key for key in answered if key[2] >= 500]
    assert answered.total() >= size.requests
    assert accepted >= size.accepted


def _schemathesis(server: GatewayServer, folder: Path, token: str | None, *options: str) -> None:
    config = folder / "schemathesis.toml"
    config.write_text(EXPECTATIONS)
    command = [str(Path(sys.executable).with_name("st")), "--config-file", str(config), "run"]
    command += [f"{server.url}/openapi.json", "--checks", "all", "--generation-deterministic", "--continue-on-failure"]
    command += ["--request-timeout", "75", "--suppress-health-check", "all", "--no-color"]
    command += ["--header", f"Authorization: Bearer {token}"] if token else []
    environment = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, env=environment, cwd=folder, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-30_000:] + done.stderr[-5_000:]


def _answers(server: GatewayServer) -> Counter[tuple[str, str, int]]:
    """How often each route answered with each status, as the gateway itself counted."""
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    return Counter({(m[1], m[2], int(m[3])): int(m[4]) for m in COUNTED.finditer(text)})


def _by_status(answered: Counter[tuple[str, str, int]]) -> dict[int, int]:
    by_status: Counter[int] = Counter()
    for (_, _, status), count in answered.items():
        by_status[status] += count
    return dict(sorted(by_status.items()))
