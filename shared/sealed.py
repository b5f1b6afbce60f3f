"""Text that is kept back, encrypted with the operator's key: `seal` and `unseal`.

AES-256-GCM-SIV (RFC 8452) with the nonce derived from the content by HMAC-SHA256, so that equal content gives equal
bytes: a resumed job leaves the same artifacts. GCM-SIV is safe under repeated nonces; a repeat tells only that two
contents are equal. `about`, what the bytes are for, is authenticated and not kept: they don't open for another use.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

MAGIC = b"TFSEAL1\n"
KEY_BYTES = 32
NONCE_BYTES = 12


class SealError(Exception):
    """The key can't be used, or the bytes can't be opened with it; never says what either holds."""


class Key:
    """The operator's key: one 256-bit secret, from which cipher key and nonce key are derived."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCMSIV(_derived(secret, b"tenfold seal: cipher"))
        self._nonces = _derived(secret, b"tenfold seal: nonces")

    def seal(self, content: bytes, about: str) -> bytes:
        """Encrypt; equal content and use, equal bytes."""
        label = about.encode()
        message = len(label).to_bytes(4, "big") + label + content
        nonce = hmac.digest(self._nonces, message, "sha256")[:NONCE_BYTES]
        return MAGIC + nonce + self._cipher.encrypt(nonce, content, label)

    def unseal(self, sealed: bytes, about: str) -> bytes:
        """Raises SealError."""
        if not sealed.startswith(MAGIC):
            raise SealError("these bytes weren't sealed by Tenfold")
        nonce, text = sealed[len(MAGIC) :][:NONCE_BYTES], sealed[len(MAGIC) + NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, text, about.encode())
        except (InvalidTag, ValueError):
            raise SealError("they were sealed with another key, for another use, or were changed") from None


def read_key(file: Path) -> Key:
    """The key in a file of 64 hexadecimal digits. Raises SealError."""
    try:
        secret = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        raise SealError(
            f"{file.name} holds no key; 64 hexadecimal digits are expected (`up --redteam` makes one)"
        ) from None
    if len(secret) != KEY_BYTES:
        raise SealError(f"{file.name} holds a key of {8 * len(secret)} bits; 256 are expected")
    return Key(secret)


def make_key(file: Path) -> None:
    """A new key that only its owner can read; one that is there stays."""
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(secrets.token_hex(KEY_BYTES) + "\n")
    try:
        os.link(fresh, file)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _derived(secret: bytes, use: bytes) -> bytes:
    return hmac.digest(secret, use, hashlib.sha256)
