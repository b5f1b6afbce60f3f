import hashlib

import pytest

from services.client import Damaged, NotFound, Tenfold, Unreachable
from tests.unit.services.api_server import ID, Answer

CONTENT = bytes(range(256)) * 40
LIST = f"/v1/jobs/{ID}/artifacts"
PATH = f"{LIST}/runs.jsonl"
RANGES = {"Accept-Ranges": "bytes"}


def described(name, content=CONTENT):
    return {"name": name, "media_type": "application/jsonl", "bytes": len(content), "committed": True,
            "sha256": hashlib.sha256(content).hexdigest()}  # fmt: skip


@pytest.fixture(autouse=True)
def _a_job_with_one_artifact(server):
    server.on("GET", LIST, {"items": [described("runs.jsonl")]})


def test_an_artifact_arrives_whole_in_a_folder(server, tenfold, tmp_path):
    server.on("GET", PATH, Answer(CONTENT, headers=RANGES))
    arrived = []
    assert tenfold.download(ID, "runs.jsonl", tmp_path, advance=arrived.append) == tmp_path / "runs.jsonl"
    assert (tmp_path / "runs.jsonl").read_bytes() == CONTENT
    assert sum(arrived) == len(CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["runs.jsonl"]


def test_a_name_may_lack_its_ending(server, tenfold, tmp_path):
    server.on("GET", PATH, Answer(CONTENT))
    assert tenfold.download(ID, "runs", tmp_path).name == "runs.jsonl"


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        pytest.param(["runs.csv", "runs.jsonl"], "'runs' is ambiguous: runs.csv, runs.jsonl", id="ambiguous"),
        pytest.param(["log.txt"], f"job {ID} has no artifact 'runs': log.txt", id="another one"),
        pytest.param([], f"job {ID} has no artifact 'runs': none yet", id="none"),
    ],
)
def test_a_name_that_fits_none_or_two_is_refused_with_those_there_are(server, tenfold, tmp_path, listed, says):
    server.on("GET", LIST, {"items": [described(name) for name in listed]})
    with pytest.raises(NotFound) as caught:
        tenfold.download(ID, "runs", tmp_path)
    assert str(caught.value) == says


def test_a_cut_download_goes_on_where_it_stopped(server, tenfold, tmp_path):
    server.on("GET", PATH, Answer(CONTENT, headers=RANGES, cut_after=3000), Answer(CONTENT, headers=RANGES))
    arrived = []
    tenfold.download(ID, "runs.jsonl", tmp_path, advance=arrived.append)
    assert (tmp_path / "runs.jsonl").read_bytes() == CONTENT
    assert server.calls("GET", PATH)[1].headers["range"] == "bytes=3000-"
    assert sum(arrived) == len(CONTENT)


def test_a_later_call_goes_on_with_what_an_earlier_one_left(server, tenfold, tmp_path):
    (tmp_path / "runs.jsonl.part").write_bytes(CONTENT[:100])
    server.on("GET", PATH, Answer(CONTENT, headers=RANGES))
    tenfold.download(ID, "runs.jsonl", tmp_path / "runs.jsonl")
    assert (tmp_path / "runs.jsonl").read_bytes() == CONTENT
    assert server.calls("GET", PATH)[0].headers["range"] == "bytes=100-"


def test_a_server_without_ranges_sends_it_all_again(server, tenfold, tmp_path):
    (tmp_path / "runs.jsonl.part").write_bytes(CONTENT[:100])
    server.on("GET", PATH, Answer(CONTENT))
    arrived = []
    tenfold.download(ID, "runs.jsonl", tmp_path, advance=arrived.append)
    assert (tmp_path / "runs.jsonl").read_bytes() == CONTENT
    assert sum(arrived) == len(CONTENT)


@pytest.mark.parametrize(
    "left", [pytest.param(CONTENT, id="all of it"), pytest.param(CONTENT + b"more", id="too much")]
)
def test_what_an_earlier_call_left_complete_or_too_long_does_no_harm(server, tenfold, tmp_path, left):
    (tmp_path / "runs.jsonl.part").write_bytes(left)
    server.on("GET", PATH, Answer(CONTENT, headers=RANGES))
    tenfold.download(ID, "runs.jsonl", tmp_path)
    assert (tmp_path / "runs.jsonl").read_bytes() == CONTENT


def test_damaged_bytes_leave_no_file(server, tenfold, tmp_path):
    server.on("GET", PATH, Answer(CONTENT[::-1]))
    with pytest.raises(Damaged, match=r"runs\.jsonl arrived with SHA-256"):
        tenfold.download(ID, "runs.jsonl", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_already_there_stays_when_the_download_fails(server, tmp_path):
    (tmp_path / "runs.jsonl").write_bytes(b"the old one")
    server.on("GET", PATH, Answer(cut_after=0))
    with Tenfold(server.url, patience_s=0.1) as tenfold, pytest.raises(Unreachable):
        tenfold.download(ID, "runs.jsonl", tmp_path)
    assert (tmp_path / "runs.jsonl").read_bytes() == b"the old one"


def test_an_upload_sends_the_bytes_with_their_type_and_length(server, tenfold, tmp_path):
    stored = {"ref": "file:ab", "bytes": 3, "media_type": "text/csv"}
    server.on("POST", "/v1/files", Answer(stored, 201))
    (tmp_path / "table.csv").write_bytes(b"a,b")
    assert tenfold.upload(tmp_path / "table.csv").ref == "file:ab"
    assert server.asked[0].content == b"a,b"
    assert server.asked[0].headers["content-type"] == "text/csv"
    assert server.asked[0].headers["content-length"] == "3"


def test_a_broken_upload_is_begun_again(server, tenfold, tmp_path):
    server.on("POST", "/v1/files", Answer(cut_after=0), Answer({"ref": "file:ab", "bytes": 3}, 201))
    (tmp_path / "blob").write_bytes(b"abc")
    assert tenfold.upload(tmp_path / "blob").ref == "file:ab"
    assert [asked.content for asked in server.asked] == [b"abc", b"abc"]


def test_a_stored_file_is_read_by_its_reference(server, tenfold):
    server.on("GET", "/v1/files/ab", Answer(b"abc"))
    assert tenfold.file("file:ab") == b"abc"
