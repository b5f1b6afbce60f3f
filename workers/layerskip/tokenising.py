"""Text to token ids and back: bytes, or a tokenizer.json."""

import codecs
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.jobs.errors import InvalidInput

FILE = "tokenizer.json"


class Tokens(Protocol):
    """A way to read text as ids."""

    @property
    def size(self) -> int:
        """Ids are below this."""

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids (length,), nothing added before or after."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; what is no text becomes U+FFFD."""

    def packed(self) -> bytes:
        """tokenizer.json."""


class Bytes:
    """An id is a byte of UTF-8."""

    size = 256

    def encode(self, text: str) -> NDArray[np.int64]:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(one for one in ids if one < 256).decode("utf-8", "replace")

    def packed(self) -> bytes:
        """Byte-level BPE without merges, whose ids are the bytes: any library reads it."""
        shape = {"add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return json.dumps({
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", **shape}, "post_processor": None,
            "decoder": {"type": "ByteLevel", **shape},
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                "vocab": {char: byte for byte, char in enumerate(_byte_characters())}, "merges": [],
            },
        }).encode()  # fmt: skip


class Pretrained:
    """A tokenizer.json of Hugging Face's library."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._path = path
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises a bare Exception
            raise InvalidInput(f"{path.name} is no tokenizer: {error}") from None
        self.size: int = self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> NDArray[np.int64]:
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def packed(self) -> bytes:
        return self._path.read_bytes()


class Streamed:
    """Text of a growing list of ids, piece by piece: a character is said once it is whole."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens, self._ids, self._said = tokens, list[int](), ""
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace") if isinstance(tokens, Bytes) else None

    def more(self, ids: Sequence[int]) -> str:
        """What can be said beyond what was."""
        if self._bytes is not None:
            return self._bytes.decode(bytes(one for one in ids if one < 256))
        self._ids += ids
        text = self._tokens.decode(self._ids)
        if text.endswith("\ufffd") or not text.startswith(self._said):
            return ""
        piece, self._said = text[len(self._said) :], text
        return piece


def read_tokens(path: Path) -> Tokens:
    """The tokenizer in a file: ours of bytes is recognised and takes no library."""
    packed = path.read_bytes()
    return Bytes() if packed == Bytes().packed() else Pretrained(path)


def tokens_of(folder: Path) -> Tokens | None:
    """The tokenizer of a model folder; None where it has none."""
    path = folder / FILE
    return read_tokens(path) if path.exists() else None


def _byte_characters() -> list[str]:
    """GPT-2's printable character of every byte."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (chr(256 + number) for number in range(256))
    return [chr(byte) if byte in shown else next(others) for byte in range(256)]
