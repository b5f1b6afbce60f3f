"""The gateway as a process: thin, quick to start, and right about large and chunked bodies."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.gateway_server import gateway_server

SOURCE = Path(__file__).parents[4]
HEAVY = ("torch", "ray", "transformers", "numpy", "scipy", "plotly", "workers")
START = """
import json, os, sys
before = os.times()
import services.gateway.app
services.gateway.app.create_app()
after = os.times()
print(json.dumps({"cpu_s": after.user + after.system, "modules": sorted(sys.modules)}))
"""


def test_a_gateway_process_imports_nothing_heavy_and_starts_in_under_a_second_of_cpu(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "TENFOLD_DATA": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    loaded = {name.partition(".")[0] for name in said["modules"]}
    print(f"CPU of a gateway's start, interpreter included: {said['cpu_s']:.2f} s")
    assert loaded.isdisjoint(HEAVY)
    assert said["cpu_s"] < 1.0


@pytest.fixture(scope="module")
def server(shared_redis, kinds_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    with gateway_server(shared_redis.url, folder, kinds_path, max_body="4096", max_upload="100000") as running:
        yield running


def chunks(size: int):
    for _ in range(size // 1000):
        yield b"x" * 1000


@pytest.mark.parametrize("size", [5_000, 2_000_000])
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/files"])
def test_who_sends_too_much_can_read_that_it_was_too_much(server, path, size, is_chunked):
    size = size if path == "/v1/jobs" else max(size, 300_000)
    content = chunks(size) if is_chunked else b"x" * size
    with server.client() as client:
        answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too_large")
        assert client.get("/healthz").status_code == 200  # over the same connection: it was drained


@pytest.mark.parametrize(("path", "status"), [("/v1/nowhere", 404), ("/v1/me", 405), ("/v1/jobs/x/cancel", 404)])
def test_a_body_that_nobody_wanted_does_not_break_the_answer(server, path, status):
    with server.client() as client:
        assert client.post(path, content=b"x" * 3_000_000).status_code == status
        assert client.get("/healthz").status_code == 200


def test_more_than_is_drained_does_the_gateway_no_harm(server):
    with server.client() as client, contextlib.suppress(httpx.TransportError):  # it may not get to the answer
        answer = client.post("/v1/jobs", content=b"x" * (40 * 2**20), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
    with server.client() as client:
        assert client.get("/healthz").status_code == 200


def test_a_chunked_submit_is_accepted(server):
    body = json.dumps({"kind": "test.noop", "params": {}}).encode()
    with server.client() as client:
        answer = client.post(
            "/v1/jobs", content=iter([body[:10], body[10:]]), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 202


@pytest.mark.parametrize("body", [b"zz\r\n{}\r\n0\r\n\r\n", b"5\r\n{}", b'{"kind": '])
def test_a_body_that_breaks_off_is_malformed_or_ends_the_connection(server, body):
    framing = b"Content-Length: 500" if body.startswith(b"{") else b"Transfer-Encoding: chunked"
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" + framing + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert b"Traceback" not in answer
    with server.client() as client:
        assert client.get("/healthz").status_code == 200


def test_request_metrics_are_summed_over_the_processes(server):
    def count(client: httpx.Client) -> float:
        start = 'tenfold_http_request_seconds_count{method="GET",route="/v1/kinds",status="200"}'
        found = [line for line in client.get("/metrics").text.splitlines() if line.startswith(start)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    with server.client() as client:
        before = count(client)
    for _ in range(20):
        with server.client() as client:  # a connection each: the processes share them
            client.get("/v1/kinds")
    with server.client() as client:
        assert count(client) == before + 20


def test_streams_and_calls_share_a_real_server(server):
    with server.client() as client:
        job = client.post("/v1/jobs", json={"kind": "test.noop", "params": {}}).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as events:
            lines = events.iter_lines()
            assert next(lines) == "retry: 1000"
            with server.client() as other:
                assert other.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
            rest = list(lines)
    assert [line for line in rest if line.startswith("data:")][-1] == 'data: {"attempt": 0, "state": "cancelled"}'
