"""A job's artifacts and uploaded files, as bytes over HTTP."""

import hashlib
import io

import pytest

DATA = bytes(range(256)) * 4
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'


@pytest.fixture
def artifact(submit, worker) -> str:
    """Where the artifact `data.bin` of a finished job is."""
    job = submit("test.walk")
    worker.run(job, data_bin=DATA, end_txt=b"1.0")
    return f"/v1/jobs/{job}/artifacts/data.bin"


@pytest.fixture
def file(api) -> str:
    """Where an uploaded file is."""
    sha256 = api.post("/v1/files", data=DATA, content_type="application/octet-stream").json["ref"].removeprefix("file:")
    return f"/v1/files/{sha256}"


@pytest.fixture(params=["artifact", "file"])
def bytes_at(request) -> str:
    return request.getfixturevalue(request.param)


def test_artifacts_are_listed_with_what_identifies_them(api, artifact):
    items = api.get(artifact.rpartition("/")[0]).json["items"]
    assert [item["name"] for item in items] == ["data.bin", "end.txt"]
    assert (items[0]["bytes"], items[0]["sha256"], items[0]["committed"]) == (1024, ETAG.strip('"'), True)


def test_a_running_job_lists_and_serves_what_is_finished(api, submit, worker):
    job = submit("test.walk")
    worker.leave(worker.claim(job), end_txt=b"1.0")
    (item,) = api.get(f"/v1/jobs/{job}/artifacts").json["items"]
    assert (item["name"], item["committed"]) == ("end.txt", False)
    assert api.get(f"/v1/jobs/{job}/artifacts/end.txt").data == b"1.0"


def test_the_bytes_come_whole_with_their_digest_as_etag(api, bytes_at):
    answer = api.get(bytes_at)
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (200, DATA, ETAG)
    assert answer.headers["Content-Length"] == "1024"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("wanted", "status", "span"),
    [
        pytest.param("bytes=0-0", 206, slice(0, 1), id="first byte"),
        pytest.param("bytes=10-19", 206, slice(10, 20), id="middle"),
        pytest.param("bytes=1000-", 206, slice(1000, None), id="from a byte on"),
        pytest.param("bytes=-24", 206, slice(-24, None), id="the last bytes"),
        pytest.param("bytes=1000-9999", 206, slice(1000, None), id="beyond the end"),
        pytest.param("bytes=0-1,5-6", 200, slice(None), id="several: the whole"),
        pytest.param("lines=1-2", 200, slice(None), id="another unit: the whole"),
        pytest.param("bytes=nonsense", 200, slice(None), id="nonsense: the whole"),
        pytest.param("bytes=2000-", 416, None, id="behind the end"),
    ],
)
def test_a_range_is_served(api, bytes_at, wanted, status, span):
    answer = api.get(bytes_at, headers={"Range": wanted})
    assert answer.status_code == status
    if span is None:
        assert answer.headers["Content-Range"] == "bytes */1024"
        assert answer.json["type"] == "/problems/range_not_satisfiable"
    else:
        assert answer.data == DATA[span]
        assert answer.headers["Content-Length"] == str(len(DATA[span]))


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        pytest.param({"If-None-Match": ETAG}, 304, id="same"),
        pytest.param({"If-None-Match": f"W/{ETAG}"}, 304, id="same, weakly"),
        pytest.param({"If-None-Match": f'"other", {ETAG}'}, 304, id="one of several"),
        pytest.param({"If-None-Match": '"other"'}, 200, id="another"),
        pytest.param({"If-Range": ETAG, "Range": "bytes=0-1"}, 206, id="range of the same"),
        pytest.param({"If-Range": '"other"', "Range": "bytes=0-1"}, 200, id="range of another: the whole"),
    ],
)
def test_conditions_are_heeded(api, bytes_at, condition, status):
    answer = api.get(bytes_at, headers=condition)
    assert answer.status_code == status
    assert answer.headers["ETag"] == ETAG
    assert (answer.data == b"") == (status == 304)


def test_head_tells_the_size_and_sends_nothing(api, bytes_at):
    answer = api.head(bytes_at)
    assert (answer.status_code, answer.headers["Content-Length"], answer.data) == (200, "1024", b"")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("end", True, id="without its ending"),
        pytest.param("data", True, id="the other without its ending"),
        pytest.param("dat", False, id="half a name"),
        pytest.param("..", False, id="dots"),
        pytest.param("%2e%2e%2fcommitted.json", False, id="a path"),
        pytest.param("x" * 129, False, id="too long"),
    ],
)
def test_an_artifact_may_be_named_without_its_ending_and_not_otherwise(api, artifact, name, found):
    answer = api.get(f"{artifact.rpartition('/')[0]}/{name}")
    assert answer.status_code == (200 if found else 404)


def test_an_artifact_the_store_has_lost_is_not_found(api, parts, artifact):
    job = artifact.split("/")[3]
    parts.artifacts.delete(f"jobs/{job}")
    assert api.get(artifact).status_code == 404


def test_a_large_artifact_in_an_object_store_is_fetched_from_there(api, parts, artifact, monkeypatch):
    monkeypatch.setattr(parts.artifacts, "presigned_url", lambda key: f"https://store.example/{key}?signed")
    monkeypatch.setattr("services.gateway.artifacts.PRESIGN_FROM_BYTES", 1024)
    answer = api.get(artifact)
    assert answer.status_code == 307
    assert answer.headers["Location"].startswith("https://store.example/jobs/")
    assert api.get(artifact.replace("data.bin", "end.txt")).status_code == 200  # a small one comes from here


# Uploads --------------------------------------------------------------------------------------------------------------


def test_a_raw_body_and_a_multipart_field_give_the_same_ref(api):
    raw = api.post("/v1/files", data=DATA, content_type="text/csv")
    form = api.post("/v1/files", data={"file": (io.BytesIO(DATA), "x.csv", "text/csv")})
    assert (raw.status_code, form.status_code) == (201, 201)
    assert raw.json == form.json == {"ref": f"file:{ETAG.strip(chr(34))}", "bytes": 1024, "media_type": "text/csv"}


def test_an_empty_file_is_a_file(api):
    assert api.post("/v1/files", data=b"", content_type="text/plain").json["bytes"] == 0


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param({"other": (io.BytesIO(b"x"), "x")}, "file", id="another field"),
        pytest.param({"file": [(io.BytesIO(b"x"), "x"), (io.BytesIO(b"y"), "y")]}, "file", id="two files"),
        pytest.param({"file": (io.BytesIO(b"x"), "x"), "note": "hello"}, "file", id="a field beside it"),
        pytest.param({"note": "hello"}, "file", id="no file"),
    ],
)
def test_a_multipart_upload_has_exactly_one_file(api, data, field):
    answer = api.post("/v1/files", data=data, content_type="multipart/form-data")
    assert answer.status_code == 422
    assert answer.json["errors"][0]["loc"] == ["body", field]


def test_an_upload_without_a_body_is_refused(api):
    assert api.post("/v1/files").status_code == 422


@pytest.mark.settings(max_upload=2048)
@pytest.mark.parametrize("form", [False, True])
def test_an_upload_beyond_the_limit_is_refused_and_not_kept(api, parts, form):
    data = b"x" * 200_000
    answer = api.post("/v1/files", data={"file": (io.BytesIO(data), "x")} if form else data)
    assert (answer.status_code, answer.json["type"]) == (413, "/problems/too_large")
    assert list(parts.artifacts.blobs("files")) == []


def test_a_file_nobody_uploaded_is_not_found(api):
    assert api.get(f"/v1/files/{'0' * 64}").status_code == 404


def test_what_an_upload_calls_itself_does_not_reach_a_header_unless_it_is_a_media_type(api):
    answer = api.post("/v1/files", data=b"x", content_type="text/html; charset=x")
    assert answer.json["media_type"] == "text/html"
    odd = api.post("/v1/files", data=b"y", content_type="so/und/so")
    assert odd.json["media_type"] == "application/octet-stream"


def test_a_forms_type_that_a_client_sends_unasked_says_nothing_of_a_file(api):
    answer = api.post("/v1/files", data=b"a,b\n", content_type="application/x-www-form-urlencoded")
    assert answer.json["media_type"] == "application/octet-stream"
