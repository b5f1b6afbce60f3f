"""Requests that are not what they should be: each answered by a problem, none by a 5xx or a page of Flask's."""

import json
import re

import pytest
import redis

from services.gateway.problems import PROBLEMS

ID = "01M86AYJQV000N6W7J0SFJCABF"
NOOP = {"kind": "test.noop", "params": {}}


def post(api, data: bytes, content_type: str = "application/json"):
    return api.post("/v1/jobs", data=data, content_type=content_type)


def is_problem(answer, name: str) -> bool:
    """Whether the answer is that problem, whole and well-formed."""
    kind = PROBLEMS[name]
    assert answer.mimetype == "application/problem+json", answer.text
    assert (answer.json["title"], answer.json["status"]) == (kind.title, kind.status)
    assert answer.json["instance"] == answer.headers["X-Request-Id"]
    return answer.json["type"] == f"/problems/{name}" and answer.status_code == kind.status


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b'{"kind": "test.noop", "params": {}} x', id="rubbish behind"),
        pytest.param(b"{'kind': 1}", id="single quotes"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": -Infinity}', id="infinity"),
        pytest.param(b'{"a": "\xff"}', id="not UTF-8"),
        pytest.param(json.dumps(NOOP).encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(NOOP).encode(), id="byte order mark"),
        pytest.param(b'{"a": "\x01"}', id="control character"),
        pytest.param(b'{"kind": "test.noop", "kind": "test.noop", "params": {}}', id="a key twice"),
        pytest.param(b'{"kind": "test.noop", "params": {"note": "a", "note": "b"}}', id="a key twice, deeper"),
        pytest.param(b"[" * 101 + b"]" * 101, id="101 levels"),
        pytest.param(b'{"a":' * 400 + b"1" + b"}" * 400, id="400 levels"),
        pytest.param(b"[" * 100_000, id="100,000 levels"),
    ],
)
def test_a_body_that_is_no_json_of_ours_is_malformed(api, data):
    assert is_problem(post(api, data), "malformed")


@pytest.mark.parametrize(
    ("data", "loc"),
    [
        pytest.param(b"[]", ["body"], id="a list"),
        pytest.param(b"null", ["body"], id="null"),
        pytest.param(
            b'{"kind": "test.noop", "params": {"size": 9007199254740994}}', ["body", "params", "size"], id="2^53 + 2"
        ),
        pytest.param(b'{"a": [1, {"b": -99999999999999999999}]}', ["body", "a", 1, "b"], id="a long negative"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", ["body", "a"], id="5,000 digits"),
        pytest.param(b'{"a": 1e400}', ["body", "a"], id="1e400"),
        pytest.param(b'{"a": {"b": "\\u0000"}}', ["body", "a", "b"], id="NUL"),
        pytest.param(b'{"\\ud800": 1}', ["body", "\\ud800"], id="lone surrogate in a key"),
    ],
)
def test_json_out_of_bounds_is_refused_with_its_place(api, data, loc):
    answer = post(api, data)
    assert is_problem(answer, "invalid")
    assert answer.json["errors"][0]["loc"] == loc


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
                                          "application/json; charset=latin-1", "application/problem+json"])  # fmt: skip
def test_json_calls_need_their_content_type(api, content_type):
    assert is_problem(post(api, json.dumps(NOOP).encode(), content_type), "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_may_name_its_charset(api, content_type):
    assert post(api, json.dumps(NOOP).encode(), content_type).status_code == 202


@pytest.mark.settings(max_body=2000)
def test_a_body_beyond_the_limit_is_too_large_and_one_at_the_limit_is_not(api):
    def body(size: int) -> bytes:
        text = '{"kind": "test.noop", "params": {"note": "%s"}}'
        return (text % ("x" * (size - len(text) + 2))).encode()

    assert post(api, body(2000)).status_code == 202
    assert is_problem(post(api, body(2001)), "too_large")


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/v1/tokens"), ("POST", "/v1/gc"), ("PUT", "/v1/redteam/allowed/x"), ("POST", "/v1/sweeps"),
    ("POST", "/v1/jobs"),
])  # fmt: skip
@pytest.mark.parametrize(("data", "name"), [(b"{", "malformed"), (b"[]", "invalid"), (b'{"x": 1}', "invalid")])
def test_every_call_with_a_body_reads_it_as_strictly(api, method, path, data, name):
    assert is_problem(api.open(path, method=method, data=data, content_type="application/json"), name)


# Routes and methods ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [
    "/", "/v1", "/v1/", "/v1/jobs/", "/v1//jobs", "/v2/jobs", "/static/x", "/v1/jobs/a/b/c", "/healthz/", "/%00",
    "/v1/jobs/%2e%2e/%2e%2e",
])  # fmt: skip
def test_an_unknown_route_is_not_found(api, path):
    assert is_problem(api.get(path), "not_found")


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("PUT", "/v1/jobs", {"GET", "HEAD", "POST"}), ("OPTIONS", "/v1/jobs", {"GET", "HEAD", "POST"}),
    ("PATCH", f"/v1/jobs/{ID}", {"GET", "HEAD", "DELETE"}), ("TRACE", "/healthz", {"GET", "HEAD"}),
    ("GET", f"/v1/jobs/{ID}/cancel", {"POST"}), ("HEAD", "/v1/files", {"POST"}), ("BREW", "/v1/me", {"GET", "HEAD"}),
])  # fmt: skip
def test_a_wrong_method_is_told_the_right_ones(api, method, path, allowed):
    answer = api.open(path, method=method)
    assert answer.status_code == 405
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == allowed
    if method != "HEAD":
        assert is_problem(answer, "method_not_allowed")


def test_every_get_answers_head_with_the_same_headers_and_no_body(api, submit):
    job = submit()
    for path in (
        "/v1/jobs",
        f"/v1/jobs/{job}",
        "/v1/kinds",
        "/v1/me",
        "/healthz",
        "/docs",
        "/openapi.json",
        "/v1/queues",
    ):
        get, head = api.get(path), api.head(path)
        assert (head.status_code, head.data) == (200, b"")
        assert head.headers["Content-Type"] == get.headers["Content-Type"]


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False)]
)
def test_a_request_keeps_its_id_where_that_is_a_decent_one(api, given, kept):
    answer = api.get("/healthz", headers={"X-Request-Id": given})
    assert (answer.headers["X-Request-Id"] == given) is kept
    assert answer.headers["X-Request-Id"]


# What goes wrong inside -----------------------------------------------------------------------------------------------


def test_a_defect_answers_with_the_request_id_and_nothing_else(api, parts, monkeypatch):
    def break_down(*_):
        raise RuntimeError("secret words of /srv/tenfold/shared/jobs/store.py")

    monkeypatch.setattr(parts.store, "find", break_down)
    answer = api.get("/v1/jobs", headers={"X-Request-Id": "r-1"})
    assert is_problem(answer, "internal")
    assert answer.json == {"type": "/problems/internal", "title": "Internal error", "status": 500, "instance": "r-1"}


@pytest.mark.parametrize(
    ("error", "name"),
    [
        pytest.param(redis.ConnectionError("no"), "unavailable", id="redis is away"),
        pytest.param(redis.TimeoutError("no"), "unavailable", id="redis is slow"),
        pytest.param(redis.BusyLoadingError("loading"), "unavailable", id="redis is starting"),
        pytest.param(redis.ReadOnlyError("replica"), "unavailable", id="redis failed over"),
        pytest.param(redis.ResponseError("MISCONF can't write"), "unavailable", id="redis has no disk"),
        pytest.param(redis.ResponseError("WRONGTYPE"), "internal", id="a defect of ours"),
        pytest.param(OSError(28, "No space left on device"), "storage_full", id="disk is full"),
        pytest.param(PermissionError(13, "no", "/srv/x"), "unavailable", id="artifact store is closed"),
    ],
)
def test_what_fails_behind_the_gateway_is_told_without_its_words(api, parts, monkeypatch, error, name):
    def fail(*_):
        raise error

    monkeypatch.setattr(parts.store, "find", fail)
    answer = api.get("/v1/jobs")
    assert is_problem(answer, name)
    assert "/srv" not in answer.text


def test_every_problem_has_a_page_at_its_type(api):
    for name, kind in PROBLEMS.items():
        page = api.get(f"/problems/{name}")
        assert (page.status_code, page.mimetype) == (200, "text/html")
        assert kind.title in page.text


def test_every_problem_type_is_shown_by_a_test_of_this_folder(request):
    """The other files' names for them count: what nobody provokes may not work."""
    folder = request.path.parent
    text = "\n".join(path.read_text() for path in folder.glob("test_*.py"))
    named = set(re.findall(r'"(?:/problems/)?([a-z_]+)"', text))
    by_status = {int(status) for status in re.findall(r"\b(4\d\d|50\d)\b", text)}
    assert {name for name, kind in PROBLEMS.items() if name not in named and kind.status not in by_status} == set()
