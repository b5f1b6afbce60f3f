"""Encrypted text: equal bytes for equal content, nothing without the key, no use for another purpose."""

import stat

import pytest

from shared.sealed import Key, SealError, make_key, read_key

SECRET = bytes(range(32))
TEXT = b"some text that is kept back"


def test_what_is_sealed_opens_to_the_same_bytes_for_the_same_use():
    assert Key(SECRET).unseal(Key(SECRET).seal(TEXT, "a.enc"), "a.enc") == TEXT


def test_equal_content_gives_equal_bytes_and_other_content_another_nonce():
    sealed = Key(SECRET).seal(TEXT, "a.enc")
    assert sealed == Key(SECRET).seal(TEXT, "a.enc")
    other = Key(SECRET).seal(TEXT + b".", "a.enc")
    assert sealed[8:20] != other[8:20]
    assert Key(SECRET).seal(TEXT, "b.enc")[8:20] != sealed[8:20]
    assert TEXT not in sealed


@pytest.mark.parametrize("spoil", [
    pytest.param(lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1]), id="a bit flipped"),
    pytest.param(lambda sealed: sealed[:15] + b"\0" + sealed[16:], id="another nonce"),
    pytest.param(lambda sealed: sealed[:-5], id="cut"),
    pytest.param(lambda sealed: sealed[:20], id="nothing after the nonce"),
    pytest.param(lambda sealed: b"plain text", id="never sealed"),
])  # fmt: skip
def test_changed_bytes_do_not_open(spoil):
    with pytest.raises(SealError):
        Key(SECRET).unseal(spoil(Key(SECRET).seal(TEXT, "a.enc")), "a.enc")


def test_neither_another_key_nor_another_use_opens_it():
    sealed = Key(SECRET).seal(TEXT, "a.enc")
    with pytest.raises(SealError):
        Key(SECRET[::-1]).unseal(sealed, "a.enc")
    with pytest.raises(SealError):
        Key(SECRET).unseal(sealed, "checkpoint")


def test_a_made_key_is_its_owners_alone_and_is_not_made_again(tmp_path):
    make_key(tmp_path / "key")
    text = (tmp_path / "key").read_text()
    make_key(tmp_path / "key")
    assert (tmp_path / "key").read_text() == text
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["key"]
    assert read_key(tmp_path / "key").seal(TEXT, "a")


@pytest.mark.parametrize("text", ["", "not hexadecimal", "00" * 16, "00" * 33, "ä" * 64])
def test_what_is_no_key_is_refused_without_saying_what_it_holds(tmp_path, text):
    (tmp_path / "key").write_text(text)
    with pytest.raises(SealError) as refused:
        read_key(tmp_path / "key")
    assert not text or text not in str(refused.value)


def test_a_missing_key_file_is_refused(tmp_path):
    with pytest.raises(SealError, match="up --redteam"):
        read_key(tmp_path / "none")
