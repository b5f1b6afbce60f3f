"""A job's events over HTTP: in order, without repeat, to the end."""

import json
import threading
import time
from contextlib import ExitStack

import pytest

from services.gateway.events import SLOT_S
from shared.jobs.history import write_committed

STREAM_LENGTH = 10_000  # what the contract promises


def parse(text: str) -> list[tuple[str, str, dict]]:
    """(id, type, data) of each event of a stream's text."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            events.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return events


def said(events) -> list[str]:
    """The words of the tokens, the states of the states."""
    return [data.get("text") or data.get("state") or kind for _, kind, data in events]


@pytest.fixture
def finished(submit, worker) -> str:
    job = submit()
    claim = worker.claim(job)
    worker.say(claim, "one", "two")
    worker.succeed(claim)
    return job


def test_a_finished_job_says_everything_and_ends(api, finished):
    answer = api.get(f"/v1/jobs/{finished}/events")
    assert answer.mimetype == "text/event-stream"
    assert said(parse(answer.text)) == ["queued", "running", "one", "two", "succeeded"]


def test_every_event_has_an_id_and_the_attempt(api, finished):
    events = parse(api.get(f"/v1/jobs/{finished}/events").text)
    assert [data["attempt"] for _, _, data in events] == [0, 1, 1, 1, 1]
    assert len({id for id, _, _ in events}) == 5


@pytest.mark.parametrize("seen", range(6))
def test_a_stream_resumes_after_the_last_id_without_repeat(api, finished, seen):
    events = parse(api.get(f"/v1/jobs/{finished}/events").text)
    after = events[seen - 1][0] if seen else "0-0"
    resumed = api.get(f"/v1/jobs/{finished}/events", headers={"Last-Event-ID": after})
    assert parse(resumed.text) == events[seen:]


def test_a_stream_of_a_final_job_ends_at_once_when_the_id_was_the_last(api, finished):
    last = parse(api.get(f"/v1/jobs/{finished}/events").text)[-1][0]
    start = time.monotonic()
    assert parse(api.get(f"/v1/jobs/{finished}/events", headers={"Last-Event-ID": last}).text) == []
    assert time.monotonic() - start < 3  # far less than a look at a quiet job


def test_a_stream_of_a_final_job_that_has_expired_ends_at_once(api, parts, finished):
    parts.store.redis.delete(f"tf:events:{finished}")
    assert parse(api.get(f"/v1/jobs/{finished}/events").text) == []


def test_events_come_while_the_job_runs(api, submit, worker):
    job = submit()
    claim = worker.claim(job)
    heard = threading.Event()

    def speak() -> None:
        worker.say(claim, "first")
        assert heard.wait(20)  # the listener has it before the job is over
        worker.succeed(claim)

    speaking = threading.Thread(target=speak)
    speaking.start()
    text = ""
    for chunk in api.get(f"/v1/jobs/{job}/events", buffered=False).response:
        text += chunk if isinstance(chunk, str) else chunk.decode()
        if "first" in text:
            heard.set()
    speaking.join()
    assert said(parse(text)) == ["queued", "running", "first", "succeeded"]


def test_a_retried_job_goes_on_in_the_same_stream(api, submit, worker):
    job = submit()
    worker.fail(worker.claim(job))
    failed = parse(api.get(f"/v1/jobs/{job}/events").text)
    api.post(f"/v1/jobs/{job}/retry")
    worker.run(job)
    answer = api.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": failed[-1][0]})
    assert said(parse(answer.text)) == ["queued", "running", "succeeded"]


def test_a_long_history_arrives_whole_though_the_job_was_retried_in_its_middle(api, submit, worker):
    job = submit()
    claim = worker.claim(job)
    worker.say(claim, *(f"t{n}" for n in range(1200)))
    worker.fail(claim)
    api.post(f"/v1/jobs/{job}/retry")
    claim = worker.claim(job)
    worker.say(claim, *(f"u{n}" for n in range(1200)))
    worker.succeed(claim)
    words = said(parse(api.get(f"/v1/jobs/{job}/events").text))
    assert len(words) == 2400 + 6
    assert words[-1] == "succeeded"


def test_resuming_before_the_head_yields_one_gap_first(api, submit, worker):
    job = submit()
    claim = worker.claim(job)
    first = parse_page(api, job)[0]["id"]
    for start in range(0, STREAM_LENGTH + 200, 1000):
        worker.say(claim, *(f"{n}" for n in range(start, start + 1000)))
    worker.succeed(claim)
    events = parse(api.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": first}).text)
    kinds = [kind for _, kind, _ in events]
    assert kinds[0] == "gap"
    assert kinds.count("gap") == 1
    assert events[0][2]["resumes_at"] == events[1][0]
    assert len(events) == STREAM_LENGTH + 1


def test_a_stream_of_a_deleted_job_ends(api, parts, submit, worker, monkeypatch):
    monkeypatch.setattr("services.gateway.events.LOOK_S", 0.1)
    job = submit()
    deleting = threading.Timer(0.3, lambda: parts.store.redis.delete(f"tf:job:{job}", f"tf:events:{job}"))
    deleting.start()
    assert said(parse(api.get(f"/v1/jobs/{job}/events").text)) == ["queued"]
    deleting.join()


def test_at_a_jobs_end_one_of_those_who_follow_it_looks_for_all(parts, finished, monkeypatch):
    looks, state = [], parts.store.state
    monkeypatch.setattr(parts.store, "state", lambda job: looks.append(job) or state(job))
    with ExitStack() as stack:
        followers = [stack.enter_context(parts.tail.follow(finished, "0-0")) for _ in range(20)]
        assert all(parts.tail.is_over(follower) for follower in followers)
    assert looks == [finished]


def test_a_stream_that_has_not_heard_the_end_is_not_over_though_another_is(parts, finished):
    with parts.tail.follow(finished, "0-0") as whole, parts.tail.follow(finished, "0-0") as behind:
        assert parts.tail.is_over(whole)
        behind.last = "1-0"
        assert not parts.tail.is_over(behind)


def test_a_quiet_stream_shows_that_it_is_alive(api, submit, worker, monkeypatch):
    monkeypatch.setattr("services.gateway.events.LOOK_S", 0.1)
    monkeypatch.setattr("services.gateway.events.HEARTBEAT_S", 0.2)
    job = submit()
    claim = worker.claim(job)
    ending = threading.Timer(0.8, lambda: worker.succeed(claim))
    ending.start()
    text = api.get(f"/v1/jobs/{job}/events").text
    ending.join()
    assert ": alive\n\n" in text


# Pages ----------------------------------------------------------------------------------------------------------------


def parse_page(api, job: str, **query) -> list[dict]:
    return api.get(f"/v1/jobs/{job}/events", query_string=query, headers={"Accept": "application/json"}).json["items"]


def test_a_page_holds_the_events_and_where_to_go_on(api, submit, worker):
    job = submit()
    claim = worker.claim(job)
    headers = {"Accept": "application/json"}
    page = api.get(f"/v1/jobs/{job}/events", headers=headers).json
    assert [item["data"]["state"] for item in page["items"]] == ["queued", "running"]
    assert page["next_after"] == page["items"][-1]["id"]
    worker.succeed(claim)
    rest = api.get(f"/v1/jobs/{job}/events", headers=headers, query_string={"after": page["next_after"]}).json
    assert [item["data"]["state"] for item in rest["items"]] == ["succeeded"]
    assert rest["next_after"] is None


@pytest.mark.parametrize(
    ("accept", "status", "mimetype"),
    [
        pytest.param("*/*", 200, "text/event-stream", id="anything"),
        pytest.param("", 200, "text/event-stream", id="nothing said"),
        pytest.param("application/json", 200, "application/json", id="json"),
        pytest.param("text/event-stream;q=0.5, application/json", 200, "application/json", id="json rather"),
        pytest.param("text/html,*/*;q=0.1", 200, "text/event-stream", id="a browser"),
        pytest.param("image/png", 406, "application/problem+json", id="a picture"),
    ],
)
def test_the_accept_header_chooses_the_form(api, finished, accept, status, mimetype):
    answer = api.get(f"/v1/jobs/{finished}/events", headers={"Accept": accept})
    assert (answer.status_code, answer.mimetype) == (status, mimetype)


@pytest.mark.parametrize("after", ["x", "1", "1-", "-1", "1-1-1", "99999999999999999-0"])
def test_what_is_no_event_id_is_refused(api, finished, after):
    assert api.get(f"/v1/jobs/{finished}/events", query_string={"after": after}).status_code == 422
    assert api.get(f"/v1/jobs/{finished}/events", headers={"Last-Event-ID": after}).status_code == 422


def test_events_of_an_unknown_job_are_not_found(api):
    assert api.get("/v1/jobs/01M86AYJQV000N6W7J0SFJCABF/events").status_code == 404


# Slots ----------------------------------------------------------------------------------------------------------------


@pytest.mark.settings(streams_per_caller=2)
def test_a_caller_with_too_many_streams_is_told_when_to_come_back(app, api, parts, submit):
    job = submit()
    held = [app.test_client().get(f"/v1/jobs/{job}/events", buffered=False) for _ in range(2)]
    refused = api.get(f"/v1/jobs/{job}/events")
    assert (refused.status_code, refused.json["type"]) == (429, "/problems/quota")
    assert int(refused.headers["Retry-After"]) > 0
    assert api.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/json"}).status_code == 200
    held[0].close()
    again = app.test_client().get(f"/v1/jobs/{job}/events", buffered=False)
    assert again.status_code == 200
    for stream in (held[1], again):
        stream.close()
    assert parts.store.redis.zcard("tf:streams:local") == 0


def test_a_stream_that_died_unseen_gives_its_slot_back_after_a_while(parts):
    assert parts.store.hold_stream("me", "dead", 1, 0.05)
    time.sleep(0.1)
    assert parts.store.hold_stream("me", "next", 1, SLOT_S)


def test_asking_for_a_streams_headers_holds_no_slot(api, parts, submit):
    answer = api.head(f"/v1/jobs/{submit()}/events")
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    assert parts.store.redis.zcard("tf:streams:local") == 0


# The log --------------------------------------------------------------------------------------------------------------


def test_the_log_is_served_while_the_job_runs_from_any_byte_on(api, submit, worker):
    job = submit()
    claim = worker.claim(job)
    worker.say(claim, log="Zürich\n")
    whole = api.get(f"/v1/jobs/{job}/log")
    assert (whole.text, whole.headers["X-Log-Bytes"]) == ("Zürich\n", "8")
    assert api.get(f"/v1/jobs/{job}/log?offset=2").data == b"\xbcrich\n"  # in the middle of the ü
    assert api.get(f"/v1/jobs/{job}/log?offset=99").data == b""
    worker.succeed(claim, log_txt=b"Z\xc3\xbcrich\nend\n")
    assert api.get(f"/v1/jobs/{job}/log?offset=8").text == "end\n"


def test_the_log_of_a_lost_job_outlives_redis(api, submit, worker, parts):
    job = submit(max_attempts=1)
    claim = worker.claim(job)
    worker.say(claim, log="half-way\n")
    parts.store.lose(job, 1)
    write_committed(job, parts.store, parts.artifacts)
    parts.store.redis.delete(f"tf:log:{job}", f"tf:job:{job}")
    assert api.get(f"/v1/jobs/{job}/log").text == "half-way\n"


@pytest.mark.parametrize("offset", ["-1", "x", str(2**53 + 1)])
def test_an_odd_offset_is_refused(api, submit, offset):
    assert api.get(f"/v1/jobs/{submit()}/log", query_string={"offset": offset}).status_code == 422
