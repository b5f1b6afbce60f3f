"""The service as a process: killed between events, none is lost and none is applied twice."""

import os
import signal

import httpx
import psutil

from tests.gateway_server import gateway_server

CONFIG = "services.annotation.server"
EVENTS = 9


def kill(server):
    """SIGKILL to the whole service."""
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    for process in family:
        os.kill(process.pid, signal.SIGKILL)
    server.process.wait()


def send(client, url, n):
    body = {"version": n, "action": "add", "h": 0, "t": 1, "r": f"P{n}", "event_id": f"event-{n}"}
    return client.post(url, json=body)


def test_killed_between_any_two_events_none_is_lost_or_applied_twice(redis_url, tmp_path, kinds_path):
    """Every third event the service dies right after it; its client, unsure, sends the last event again."""
    url, sent = None, 0
    while sent < EVENTS:
        with gateway_server(redis_url, tmp_path, kinds_path, CONFIG) as server, server.client() as client:
            if url is None:
                project = client.post("/v1/projects", json={"documents": "builtin:docre-native"}).json()["id"]
                url = f"/v1/projects/{project}/documents/0/events"
            if sent:
                assert send(client, url, sent - 1).json()["version"] == sent
            for _ in range(3):
                assert send(client, url, sent).status_code == 201
                sent += 1
            kill(server)
    with gateway_server(redis_url, tmp_path, kinds_path, CONFIG) as server, server.client() as client:
        events = client.get(url).json()["events"]
        assert [event["r"] for event in events] == [f"P{n}" for n in range(EVENTS)]
        assert send(client, url, 3).json()["version"] == 4
        assert client.get("/healthz").status_code == 200


def test_a_kill_while_events_are_under_way_keeps_every_one_that_was_answered(redis_url, tmp_path, kinds_path):
    with gateway_server(redis_url, tmp_path, kinds_path, CONFIG) as server, server.client() as client:
        project = client.post("/v1/projects", json={"documents": "builtin:docre-native"}).json()["id"]
        url, answered = f"/v1/projects/{project}/documents/0/events", 0
        client.timeout = httpx.Timeout(5)
        while answered < 5:
            assert send(client, url, answered).status_code == 201
            answered += 1
        kill(server)
    with gateway_server(redis_url, tmp_path, kinds_path, CONFIG) as server, server.client() as client:
        assert len(client.get(url).json()["events"]) == answered
