import pytest

from services.client import (
    ClientError,
    Conflict,
    Invalid,
    NotAllowed,
    NotFound,
    Problem,
    Refused,
    Tenfold,
    TooMany,
    Unavailable,
    Unreachable,
)
from tests.unit.services.api_server import Answer


@pytest.mark.parametrize(
    ("status", "family"),
    [
        pytest.param(400, Invalid, id="malformed"),
        pytest.param(401, NotAllowed, id="no token"),
        pytest.param(403, NotAllowed, id="no scope"),
        pytest.param(404, NotFound, id="missing"),
        pytest.param(409, Conflict, id="wrong state"),
        pytest.param(413, Invalid, id="too large"),
        pytest.param(415, Invalid, id="wrong type"),
        pytest.param(418, Refused, id="anything else"),
        pytest.param(422, Invalid, id="bad field"),
        pytest.param(429, TooMany, id="too many"),
        pytest.param(500, Unavailable, id="broken"),
        pytest.param(503, Unavailable, id="storage full"),
    ],
)
def test_a_status_becomes_its_exception(server, tenfold, status, family):
    server.on("GET", "/v1/me", Answer({"status": status, "title": "no", "detail": "because"}, status))
    with pytest.raises(Refused, match="because") as caught:
        tenfold.me()
    assert type(caught.value) is family
    assert caught.value.problem.status == status


def test_the_refused_fields_stand_in_the_message(server, tenfold):
    errors = [{"loc": ["params", "runs"], "msg": "must be at least 1", "type": "greater_than_equal"}]
    server.on("POST", "/v1/jobs", Answer({"status": 422, "title": "bad params", "errors": errors}, 422))
    with pytest.raises(Invalid, match=r"bad params \(params\.runs: must be at least 1\)"):
        tenfold.submit("govsim.simulate", {"runs": 0})


def test_fields_that_the_detail_names_already_are_not_said_twice():
    errors = [{"loc": ["params", "runs"], "msg": "too small"}]
    problem = Problem.model_validate({"status": 422, "detail": "params.runs: too small", "errors": errors})
    assert problem.sentence == "params.runs: too small"


@pytest.mark.parametrize("page", [pytest.param(b"<h1>Sorry</h1>", id="a page"), pytest.param(b"[1]", id="a list")])
def test_an_error_in_other_words_than_ours_is_still_a_problem(server, tenfold, page):
    server.on("GET", "/v1/me", Answer(page, 502))
    with pytest.raises(Unavailable, match="Bad Gateway"):
        tenfold.me()


def test_too_many_says_when_to_come_back(server, tenfold):
    server.on("GET", "/v1/me", Answer({"status": 429}, 429, {"Retry-After": "7"}))
    with pytest.raises(TooMany) as caught:
        tenfold.me()
    assert caught.value.retry_after_s == 7


def test_nothing_at_the_address_is_unreachable_and_names_it():
    with (
        Tenfold("http://127.0.0.1:9", patience_s=0) as tenfold,
        pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9: Connection refused"),
    ):
        tenfold.me()


def test_everything_a_call_can_end_in_is_a_client_error():
    assert issubclass(Refused, ClientError)
    assert issubclass(Unreachable, ClientError)
