import pytest

from services.client import Event, NotFound, Tenfold, TooMany, Unreachable
from services.client.events import parse
from tests.unit.services.api_server import ID, Answer, job, stream

EVENTS = f"/v1/jobs/{ID}/events"
JOB = f"/v1/jobs/{ID}"
SSE = {"Content-Type": "text/event-stream"}
A = ("1-0", "state", {"state": "running", "attempt": 1})
B = ("2-0", "progress", {"done": 1, "total": 2, "attempt": 1})
C = ("3-0", "state", {"state": "succeeded", "attempt": 1})


@pytest.mark.parametrize(
    ("lines", "events"),
    [
        pytest.param(["id: 1", "event: log", 'data: {"message": "m", "attempt": 2}', ""],
                     [Event(id="1", type="log", attempt=2, data={"message": "m"})], id="one"),
        pytest.param([": heartbeat", "", "retry: 1000", ""], [], id="comments and retry"),
        pytest.param(["id:1", "event:log", "data:{}", ""], [Event(id="1", type="log")], id="no space after the colon"),
        pytest.param(["id: 1", "event: log", 'data: {"a":', "data: 1}", ""], [Event(id="1", type="log", data={"a": 1})],
                     id="data over two lines"),
        pytest.param(["id: 1", "event: log", "data: {}"], [], id="cut before its end"),
        pytest.param(["id: 1", "data: {}", "", "data: {}", ""],
                     [Event(id="1", type="message"), Event(id="1", type="message")], id="an id holds until the next"),
    ],
)  # fmt: skip
def test_a_stream_is_read_as_the_standard_says(lines, events):
    assert list(parse(lines)) == events


def test_events_end_when_the_job_is_final(server, tenfold):
    server.on("GET", EVENTS, Answer(stream(A, B, C), headers=SSE))
    server.on("GET", JOB, job(state="succeeded"))
    events = list(tenfold.events(ID))
    assert [event.type for event in events] == ["state", "progress", "state"]
    assert events[1].data == {"done": 1, "total": 2}
    assert events[1].attempt == 1


def test_a_broken_stream_goes_on_after_the_last_event_without_a_repeat(server, tenfold):
    half = len(stream(A)) + len(stream(B)) - 3  # B's last bytes never arrive
    server.on("GET", EVENTS, Answer(stream(A, B, C), headers=SSE, cut_after=half), Answer(stream(B, C), headers=SSE))
    server.on("GET", JOB, job(state="succeeded"))
    assert [event.id for event in tenfold.events(ID)] == ["1-0", "2-0", "3-0"]
    assert [asked.headers.get("last-event-id") for asked in server.calls("GET", EVENTS)] == [None, "1-0"]


def test_a_stream_closed_in_good_order_while_the_job_runs_is_opened_again(server, tenfold):
    server.on("GET", EVENTS, Answer(stream(A), headers=SSE), Answer(stream(B, C), headers=SSE))
    server.on("GET", JOB, job(state="running"), job(state="succeeded"))
    assert [event.id for event in tenfold.events(ID)] == ["1-0", "2-0", "3-0"]


def test_following_can_begin_after_an_event(server, tenfold):
    server.on("GET", EVENTS, Answer(stream(C), headers=SSE))
    server.on("GET", JOB, job(state="succeeded"))
    assert [event.id for event in tenfold.events(ID, after="2-0")] == ["3-0"]
    assert server.asked[0].headers["last-event-id"] == "2-0"


def test_a_full_house_of_streams_is_waited_for(server, tenfold):
    full = Answer({"status": 429, "title": "too many streams"}, 429, {"Retry-After": "0"})
    server.on("GET", EVENTS, full, Answer(stream(C), headers=SSE))
    server.on("GET", JOB, job(state="succeeded"))
    assert [event.id for event in tenfold.events(ID)] == ["3-0"]


def test_a_house_that_stays_full_is_given_up(server):
    server.on("GET", EVENTS, Answer({"status": 429, "title": "too many streams"}, 429))
    with Tenfold(server.url, patience_s=0.2) as tenfold, pytest.raises(TooMany):
        list(tenfold.events(ID))


def test_a_job_that_does_not_exist_is_not_waited_for(server, tenfold):
    server.on("GET", EVENTS, Answer({"status": 404, "title": "no such job"}, 404))
    with pytest.raises(NotFound):
        list(tenfold.events(ID))
    assert len(server.asked) == 1


def test_a_cluster_that_stays_away_ends_the_stream_as_unreachable(server):
    server.on("GET", EVENTS, Answer(stream(A, B), headers=SSE, cut_after=len(stream(A))), Answer(cut_after=0))
    with Tenfold(server.url, patience_s=0.3) as tenfold:
        events = tenfold.events(ID)
        assert next(events).id == "1-0"
        with pytest.raises(Unreachable):
            next(events)


def test_a_page_of_events_says_where_to_go_on(server, tenfold):
    server.on("GET", EVENTS, {"items": [{"id": "1-0", "type": "log", "data": {"attempt": 2}}], "next_after": "1-0"})
    page = tenfold.event_page(ID, after="0-1")
    assert page.next_after == "1-0"
    assert page.items == [Event(id="1-0", type="log", attempt=2, data={})]
    assert server.asked[0].query == {"after": ["0-1"]}
    assert server.asked[0].headers["accept"] == "application/json"
