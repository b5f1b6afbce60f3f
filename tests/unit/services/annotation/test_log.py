"""The log over a folder and over S3: what is there is never overwritten, and many documents cost one listing."""

import json
import threading

import pytest

from services.annotation.app import create_app
from services.annotation.log import EventLog, Stale, require_exclusive_writes
from services.gateway.problems import Problem
from shared.artifacts import ArtifactStore
from shared.settings import Settings


@pytest.fixture
def store(artifact_root):
    return ArtifactStore(artifact_root)


@pytest.fixture
def log(store):
    return EventLog(store, "annotation/p/0")


def test_of_many_that_append_the_same_version_one_wins(store, log):
    """Each with its own process's memory of the log."""
    won, lost = [], []

    def append(n):
        try:
            won.append((n, EventLog(store, "annotation/p/0").append({"n": n}, 0)))
        except Stale as stale:
            lost.append(stale.version)

    threads = [threading.Thread(target=append, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == [1] * 5
    assert log.events() == [{"n": won[0][0]}]


def test_an_event_whose_answer_was_lost_on_the_way_from_the_store_is_known_again(store, log, monkeypatch):
    """The store has it, the client library sends it once more: that is no conflict."""
    put_new = ArtifactStore.put_new

    def twice(self, key, data):
        put_new(self, key, data)
        put_new(self, key, data)

    monkeypatch.setattr(ArtifactStore, "put_new", twice)
    assert log.append({"n": 1}, 0) == 1
    assert log.events() == [{"n": 1}]


def test_what_another_process_appends_is_seen(store, log):
    other = EventLog(store, "annotation/p/0")
    assert log.events() == []
    other.append({"n": 1}, 0)
    other.append({"n": 2}, 1)
    assert log.events() == [{"n": 1}, {"n": 2}]
    with pytest.raises(Stale) as stale:
        log.append({"n": 3}, 1)
    assert stale.value.version == 2


def test_a_store_that_overwrites_is_refused_and_left_clean(store, monkeypatch):
    require_exclusive_writes(store, "annotation")
    monkeypatch.setattr(ArtifactStore, "put_new", ArtifactStore.put_bytes)
    with pytest.raises(Problem, match="two annotators could overwrite each other"):
        require_exclusive_writes(store, "annotation")
    assert not list(store.blobs("annotation"))


def test_a_project_is_annotated_over_either_store(artifact_root, redis_url, tmp_path):
    app = create_app(Settings(redis_url=redis_url, data=tmp_path / "data", artifacts=artifact_root))
    api = app.test_client()
    pid = api.post("/v1/projects", json={"documents": "builtin:docre-native", "blind_share": 0}).json["id"]
    for document, version in ((0, 0), (0, 1), (5, 0)):
        body = {"version": version, "action": "add", "h": 0, "t": 1, "r": f"P{version}"}
        assert api.post(f"/v1/projects/{pid}/documents/{document}/events", json=body).status_code == 201
    late = {"version": 0, "action": "add", "h": 1, "t": 0, "r": "P9"}
    assert api.post(f"/v1/projects/{pid}/documents/0/events", json=late).status_code == 409
    items = api.get(f"/v1/projects/{pid}/documents").json["items"]
    assert [item["version"] for item in items] == [2, 0, 0, 0, 0, 1, *[0] * 18]
    predictions = json.loads(api.get(f"/v1/projects/{pid}/export?format=predictions").text)
    assert len(predictions) == 3
    app.extensions["tenfold"].tail.close()
    app.extensions["tenfold"].store.redis.close()


def test_every_document_of_a_project_is_read_with_one_listing(redis_url, tmp_path, monkeypatch):
    app = create_app(Settings(redis_url=redis_url, data=tmp_path / "data"))
    api = app.test_client()
    pid = api.post("/v1/projects", json={"documents": "builtin:docre-native"}).json["id"]
    reads = []
    monkeypatch.setattr(ArtifactStore, "get_bytes", lambda self, key: reads.append(key))
    assert api.get(f"/v1/projects/{pid}").json["documents"] == 24
    assert api.get(f"/v1/projects/{pid}/next?annotator=ann").json["left"] == 24
    assert reads == []
    app.extensions["tenfold"].tail.close()
    app.extensions["tenfold"].store.redis.close()
