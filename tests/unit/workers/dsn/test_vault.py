"""What an evaluation has found: once, kept, forgotten; on disk only encrypted, and for one model only."""

import pytest

from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from shared.sealed import Key
from shared.settings import Settings
from workers.dsn.vault import BLOB, Vault, operators_key

KEY = Key(b"k" * 32)


@pytest.fixture
def open_vault(tmp_path):
    """`open_vault(key, digest)`: a vault over the same folder each time, as attempts of one job have it."""
    opened = []

    def open_vault(key=KEY, digest="model"):
        for ctx in opened:
            ctx.release()
        opened[:] = [LocalContext(tmp_path / "job")]
        return Vault(opened[0], key, digest)

    yield open_vault
    for ctx in opened:
        ctx.release()


def saved(tmp_path):
    return [file.read_bytes() for file in (tmp_path / "job" / ".checkpoint").glob("*") if file.is_file()]


def test_what_is_computed_once_is_there_in_the_next_attempt(open_vault):
    assert open_vault().once("a", lambda: [1, (2, 3)]) == [1, [2, 3]]  # as a resumed job reads it
    assert open_vault().once("a", lambda: pytest.fail("computed again")) == [1, [2, 3]]


def test_what_is_put_is_there_after_a_save_and_only_then(open_vault):
    vault = open_vault()
    vault.put("a", 1)
    vault.save()
    vault.put("b", 2)
    assert (vault.get("a"), vault.get("b")) == (1, 2)
    again = open_vault()
    assert (again.get("a"), again.get("b")) == (1, None)


def test_none_forgets(open_vault):
    vault = open_vault()
    vault.put("a", 1)
    vault.put("a", None)
    vault.put("never", None)
    assert vault.starting("") == {}


def test_findings_come_by_their_beginning_in_order_of_discovery(open_vault):
    vault = open_vault()
    for name in ("x/2", "y/1", "x/1"):
        vault.put(name, name)
    assert list(vault.starting("x/")) == ["x/2", "x/1"]


def test_text_is_on_disk_only_encrypted(open_vault, tmp_path):
    open_vault().once("answer", lambda: "a quite particular answer")
    files = saved(tmp_path)
    assert any(data.startswith(b"TFSEAL1") for data in files)
    assert not any(b"particular" in data or b"answer" in data for data in files)


def test_without_a_key_nothing_is_on_disk_and_a_cancellation_is_still_noticed(open_vault, tmp_path, monkeypatch):
    vault, asked = open_vault(key=None), []
    monkeypatch.setattr(vault.ctx, "check", lambda: asked.append(True))
    vault.once("a", lambda: "text")
    assert vault.get("a") == "text"
    assert asked
    assert saved(tmp_path) == []
    assert open_vault(key=None).get("a") is None


def test_equal_findings_leave_equal_bytes(open_vault, tmp_path):
    open_vault().once("a", lambda: "text")
    first = (tmp_path / "job" / ".checkpoint" / f"blob-{BLOB}").read_bytes()
    vault = open_vault()
    vault.save()
    assert (tmp_path / "job" / ".checkpoint" / f"blob-{BLOB}").read_bytes() == first


@pytest.mark.parametrize(("key", "digest"), [(Key(b"x" * 32), "model"), (KEY, "other model")], ids=["key", "model"])
def test_with_another_key_or_for_another_model_it_does_not_open(open_vault, key, digest):
    open_vault().once("a", lambda: "text")
    with pytest.raises(InvalidInput, match="key or model changed meanwhile; submit the job again"):
        open_vault(key, digest)


def test_a_checkpoint_that_a_job_with_a_key_left_means_nothing_without_it(open_vault):
    open_vault().once("a", lambda: "text")
    assert open_vault(key=None).get("a") is None


@pytest.mark.parametrize("text", ["", "xyz", "5a" * 31])
def test_a_file_that_holds_no_key_is_refused_without_its_content(tmp_path, text):
    (tmp_path / "key").write_text(text)
    with pytest.raises(InvalidInput, match="TENFOLD_REDTEAM_KEY") as refused:
        operators_key(Settings(redteam_key=tmp_path / "key"))
    assert not text or text not in str(refused.value)
    assert operators_key(Settings(redteam_key=None)) is None
