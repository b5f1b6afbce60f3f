"""The service as a process: killed at every moment of an event's life, none is lost and none is applied twice."""

import os
import signal
from contextlib import suppress

import httpx
import psutil
import pytest

from tests.gateway_server import gateway_server

MOMENTS = ("before", "after", "answered")
"""Before its event is written; after it, before the answer; when the answer is there."""


def kill(server):
    """SIGKILL to the whole service."""
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)
    server.process.wait()


def send(client, url, n):
    body = {"version": n, "action": "add", "h": 0, "t": 1, "r": f"P{n}", "event_id": f"event-{n}"}
    return client.post(url, json=body)


def test_killed_at_any_moment_of_any_event_none_is_lost_or_applied_twice(redis_url, tmp_path, kinds_path):
    """Its client, unsure, sends each event again under the same id to the service that has started anew."""
    switch, url = tmp_path / "data" / "die", None
    for n, moment in enumerate((*MOMENTS, None)):
        with (
            gateway_server(redis_url, tmp_path, kinds_path, "tests.dying_annotation") as server,
            server.client() as client,
        ):
            if url is None:
                project = client.post("/v1/projects", json={"documents": "builtin:docre-native"}).json()["id"]
                url = f"/v1/projects/{project}/documents/0/events"
            else:
                assert send(client, url, n - 1).json()["version"] == n  # again
            stands = [event["r"] for event in client.get(url).json()["events"]]
            assert stands == [f"P{k}" for k in range(n)]
            if moment == "answered":
                assert send(client, url, n).json()["version"] == n + 1
                kill(server)
            elif moment is not None:
                switch.write_text(moment)
                with pytest.raises(httpx.TransportError):
                    send(client, url, n)
                switch.unlink()
                server.process.wait()
            else:
                assert [send(client, url, k).json()["version"] for k in range(n)] == [1, 2, 3]
                assert client.get("/healthz").status_code == 200
