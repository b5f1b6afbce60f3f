"""How the gateway's processes serve connections: what gunicorn refuses itself is a problem too."""

import http.client
import io
import json
import socket
import time
from types import SimpleNamespace

import pytest
from gunicorn.workers.gthread import ThreadWorker

from services.gateway.worker_class import LINGER_MS, ProblemWorker
from tests.gateway_server import gateway_server


@pytest.fixture(scope="module")
def server(shared_redis, kinds_path, tmp_path_factory):
    with gateway_server(shared_redis.url, tmp_path_factory.mktemp("refusals"), kinds_path) as server:
        yield server


def exchange(port: int, request: bytes) -> tuple[int, dict[str, str], dict]:
    """One raw request: status, headers, problem."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)


@pytest.mark.parametrize(
    ("request_", "status", "name"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, "malformed", id="no-request-line"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nBad Header: x\r\n\r\n", 400, "malformed", id="bad-header-name"),
        pytest.param(b"POST /v1/jobs HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400, "malformed", id="bad-length"),
        pytest.param(b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: foo\r\n\r\n", 501, "not_implemented", id="coding"),
        pytest.param(b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "too_long", id="long-line"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431, "too_long", id="long-header"),
    ],
)
def test_a_request_that_never_reaches_the_application_is_refused_as_a_problem(server, request_, status, name):
    found, headers, problem = exchange(server.port, request_)
    assert (found, headers["content-type"]) == (status, "application/problem+json")
    assert headers["x-request-id"] == problem["instance"]
    assert problem["type"] == f"/problems/{name}"


def test_a_place_in_an_error_leads_through_what_was_sent(server):
    body = {"kind": "govsim.simulate", "params": {"policies": [{"type": "replay", "demands": [-1]}] * 5}}
    with server.client() as client:
        errors = client.post("/v1/jobs", json=body).json()["errors"]
    assert errors[0]["loc"] == ["body", "params", "policies", 0, "demands", 0]


LOOK = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
LAST = LOOK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("pause_s", [0.0, 4 * LINGER_MS / 1000], ids=["at-once", "later-than-its-thread-waits"])
def test_a_connection_answers_one_request_after_the_other(server, pause_s):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for _ in range(5):
        connection.request("GET", "/healthz")
        assert json.loads(connection.getresponse().read()) == {"status": "ok"}
        socket_ = connection.sock
        time.sleep(pause_s)
    assert connection.sock is socket_, "one connection served them all"
    connection.close()


class Connection:
    """As gunicorn's, with nothing read ahead."""

    is_http2 = False

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.parser = sock, SimpleNamespace(unreader=SimpleNamespace(buf=io.BytesIO()))


@pytest.fixture
def worker():
    worker = ProblemWorker.__new__(ProblemWorker)
    worker.alive = True
    return worker


def test_a_thread_stays_with_a_caller_that_goes_on_and_leaves_one_that_does_not(worker, monkeypatch):
    monkeypatch.setattr(ThreadWorker, "handle", lambda _, conn: bool(conn.sock.recv(1)))
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"abc")
        assert worker.handle(Connection(here)) is True
        here.setblocking(False)
        with pytest.raises(BlockingIOError):
            here.recv(1)  # all three were answered in this thread
        there.close()
        assert worker.handle(Connection(here)) is False


def test_a_stopping_process_answers_no_further_request_in_the_same_thread(worker, monkeypatch):
    worker.alive = False
    monkeypatch.setattr(ThreadWorker, "handle", lambda _, conn: bool(conn.sock.recv(1)))
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"abc")
        assert worker.handle(Connection(here)) is True
        assert here.recv(9) == b"bc"


def test_requests_sent_together_are_all_answered(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(LOOK + LOOK + LAST)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b'{"status": "ok"}') == 3


def test_a_caller_that_goes_away_between_two_requests_harms_nobody(server):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(LOOK)
            connection.recv(65536)
    with server.client() as client:
        assert client.get("/healthz").status_code == 200


def test_the_arbiter_is_told_once_a_second_that_a_process_lives(monkeypatch):
    told, clock = [], [100.0]
    monkeypatch.setattr(ThreadWorker, "notify", lambda worker: told.append(clock[0]))
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    worker = ProblemWorker.__new__(ProblemWorker)
    for _ in range(100):
        worker.notify()
        clock[0] += 0.0625
    assert told == [100.0 + second for second in range(7)]
