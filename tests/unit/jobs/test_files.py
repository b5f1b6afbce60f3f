"""Uploads: kept by content, dropped when nobody uses them, whatever happens at that moment."""

import hashlib
import threading

import pytest

from shared.jobs.errors import NotFound, UnknownReference
from shared.jobs.files import UploadedFile, UploadedFiles
from shared.jobs.layout import upload_key

WEEK_S = 7 * 24 * 3600
DATA = b"some text"
FILE = UploadedFile(hashlib.sha256(DATA).hexdigest(), len(DATA), "text/plain")


@pytest.fixture
def files(lives, artifacts):
    return UploadedFiles(lives.store, artifacts)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "upload").write_bytes(DATA)
    return tmp_path / "upload"


def test_an_upload_is_found_by_its_content(files, path, artifacts):
    files.add(path, FILE)
    assert files.find(FILE.sha256) == FILE
    assert artifacts.get_bytes(upload_key(FILE.sha256)) == DATA


def test_an_unknown_file_is_not_found(files):
    with pytest.raises(NotFound, match="upload it first"):
        files.find(FILE.sha256)


def test_uploading_the_same_content_again_starts_its_life_anew(lives, files, path):
    files.add(path, FILE)
    lives.wait(WEEK_S - 1)
    files.add(path, FILE)
    lives.wait(WEEK_S - 1)
    assert files.drop_unused(WEEK_S) == []


def test_a_file_that_redis_lost_is_found_and_referred_to_again(lives, files, path):
    files.add(path, FILE)
    lives.redis.delete(f"tf:file:{FILE.sha256}", "tf:files")
    assert files.find(FILE.sha256).bytes == len(DATA)
    lives.submit(params=f'{{"f":"{FILE.ref}"}}', references=(FILE.ref,))
    lives.wait(WEEK_S)
    assert files.drop_unused(WEEK_S) == []


def test_a_job_submitted_at_the_last_moment_keeps_the_file(lives, files, path, artifacts):
    files.add(path, FILE)
    lives.wait(WEEK_S)
    assert files.unused(WEEK_S) == [FILE.sha256]
    lives.submit(params=f'{{"f":"{FILE.ref}"}}', references=(FILE.ref,))
    assert not lives.store.drop_file(FILE.sha256, lives.store.now_ms())
    assert artifacts.exists(upload_key(FILE.sha256))


def test_a_job_submitted_a_moment_too_late_is_refused(lives, files, path):
    files.add(path, FILE)
    lives.wait(WEEK_S)
    assert lives.store.drop_file(FILE.sha256, lives.store.now_ms())
    with pytest.raises(UnknownReference, match="upload it again"):
        lives.submit(references=(FILE.ref,))


def test_an_upload_waits_until_the_old_blob_is_gone(lives, files, path, artifacts):
    files.add(path, FILE)
    lives.wait(WEEK_S)
    assert lives.store.drop_file(FILE.sha256, lives.store.now_ms())
    upload = threading.Thread(target=files.add, args=(path, FILE))
    upload.start()
    upload.join(0.2)
    assert upload.is_alive()
    artifacts.delete(upload_key(FILE.sha256))  # what drop_unused does next
    lives.redis.delete(f"tf:dropping:{FILE.sha256}")
    upload.join(5)
    assert artifacts.exists(upload_key(FILE.sha256))
    assert files.find(FILE.sha256) == FILE
