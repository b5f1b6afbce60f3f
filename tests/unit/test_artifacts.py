"""The artifact store: the same promises over a folder and over S3."""

import os
import threading
import time

import httpx
import pytest

from shared.artifacts import ArtifactStore

PART = 5 * 2**20  # the smallest part that S3 takes


@pytest.fixture
def store(artifact_root):
    return ArtifactStore(artifact_root)


def test_what_was_put_is_got_under_its_key_and_no_other(store):
    store.put_bytes("jobs/a/1-x/curve.json", b"{}")
    assert store.get_bytes("jobs/a/1-x/curve.json") == b"{}"
    assert (store.exists("jobs/a/1-x/curve.json"), store.exists("jobs/a/1-x/other")) == (True, False)
    assert store.size("jobs/a/1-x/curve.json") == 2


@pytest.mark.parametrize("read", ["get_bytes", "size", "open"])
def test_a_missing_blob_is_not_found(store, read):
    with pytest.raises(FileNotFoundError):
        getattr(store, read)("jobs/nowhere/x")


def test_a_missing_blob_is_no_file_either(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.get_file("jobs/nowhere/x", tmp_path / "x")


def test_a_second_put_replaces_the_first_whole(store):
    store.put_bytes("files/a", b"long, long ago")
    store.put_bytes("files/a", b"now")
    assert store.get_bytes("files/a") == b"now"


def test_a_large_file_comes_back_bit_by_bit_and_from_any_byte_on(store, tmp_path):
    data = os.urandom(1024) * (13 * 1024) + b"end"  # several parts
    (tmp_path / "large").write_bytes(data)
    store.put_file("jobs/a/1-x/large.bin", tmp_path / "large")
    store.get_file("jobs/a/1-x/large.bin", tmp_path / "deep" / "back")
    assert (tmp_path / "deep" / "back").read_bytes() == data
    with store.open("jobs/a/1-x/large.bin") as handle:
        handle.seek(len(data) - 3)
        assert handle.read() == b"end"
        handle.seek(PART)
        assert handle.read(10) == data[PART : PART + 10]


def test_blobs_and_folders_are_listed_in_order(store):
    for key in ("jobs/b/1-y/z", "jobs/a/1-x/b", "jobs/a/1-x/a", "jobs/a/committed.json"):
        store.put_bytes(key, key.encode())
    assert [(blob.key, blob.bytes) for blob in store.blobs("jobs/a")] == [
        ("jobs/a/1-x/a", 12), ("jobs/a/1-x/b", 12), ("jobs/a/committed.json", 21),
    ]  # fmt: skip
    assert store.folders("jobs") == ["a", "b"]
    assert store.folders("jobs/a") == ["1-x", "committed.json"]
    assert (store.folders("nowhere"), list(store.blobs("nowhere"))) == ([], [])


def test_a_blob_says_when_it_was_written(store):
    store.put_bytes("files/a", b"x")
    (blob,) = store.blobs("files")
    assert abs(blob.modified_s - time.time()) < 60


def test_what_another_process_wrote_is_listed_at_once(artifact_root, store):
    store.put_bytes("jobs/a/x", b"")
    assert store.folders("jobs") == ["a"]
    other = ArtifactStore(artifact_root)
    other.put_bytes("jobs/b/x", b"1")
    other.delete("jobs/a")
    assert store.folders("jobs") == ["b"]
    assert (store.exists("jobs/a/x"), store.exists("jobs/b/x"), store.size("jobs/b/x")) == (False, True, 1)


def test_many_small_blobs_are_read_at_once(store):
    keys = [f"replies/{number}" for number in range(30)]
    for key in keys:
        store.put_bytes(key, key.encode())
    assert store.get_all(keys) == {key: key.encode() for key in keys}
    assert store.get_all([]) == {}


def test_deleting_takes_a_folder_and_nothing_beside_it(store):
    for key in ("jobs/a/x", "jobs/a/y/z", "jobs/ab/x"):
        store.put_bytes(key, b"x")
    store.delete("jobs/a")
    assert [blob.key for blob in store.blobs("jobs")] == ["jobs/ab/x"]
    store.delete("jobs/a")  # again: fine


def test_deleting_many_passes_over_what_is_gone(store):
    store.put_bytes("a", b"")
    store.put_bytes("b", b"")
    store.delete_all(["a", "gone", "b"])
    store.delete_all([])
    assert (store.exists("a"), store.exists("b")) == (False, False)


def test_a_reader_sees_the_old_blob_or_the_new_one_never_a_mixture(store):
    texts = {b"a" * 100_000, b"b" * 100_000}
    first, second = sorted(texts)
    store.put_bytes("files/x", first)
    writing = threading.Thread(target=lambda: [store.put_bytes("files/x", (second, first)[n % 2]) for n in range(20)])
    writing.start()
    seen = {store.get_bytes("files/x") for _ in range(20)}
    writing.join()
    assert seen <= texts


def test_the_check_leaves_nothing_behind(store):
    store.check()
    assert list(store.blobs("")) == []


def test_a_folder_has_paths_and_no_urls(tmp_path):
    store = ArtifactStore(str(tmp_path))
    store.put_bytes("files/a", b"x")
    assert store.local_path("files/a") == tmp_path / "files" / "a"
    assert store.presigned_url("files/a") is None


@pytest.mark.parametrize("artifact_root", ["s3"], indirect=True)
def test_s3_serves_a_blob_by_its_presigned_url_without_credentials(store, monkeypatch):
    store.put_bytes("jobs/a/1-x/large.bin", b"0123456789")
    found = httpx.get(store.presigned_url("jobs/a/1-x/large.bin"), headers={"Range": "bytes=2-4"}, trust_env=False)
    assert (found.status_code, found.content) == (206, b"234")
    assert store.local_path("jobs/a/1-x/large.bin") is None


@pytest.mark.parametrize("artifact_root", ["s3"], indirect=True)
def test_a_bucket_that_is_not_there_fails_the_check(artifact_root):
    with pytest.raises(OSError):
        ArtifactStore("s3://no-such-bucket-anywhere/x").check()


def test_a_store_whose_package_is_missing_names_it(monkeypatch):
    with pytest.raises(ValueError, match="not installed"):
        ArtifactStore("gs://bucket/x")
