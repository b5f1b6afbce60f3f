"""Bytes for names that must be unique but need not be secret: ids of jobs and requests, nonces of submissions.

The system's own generator answers every call with a system call, at which a busy process changes threads. This one asks
it once, at the start, and again in each forked child, which must not go on where its parent stands. Tokens and keys,
which nobody may guess, come from `secrets`.
"""

import os
import random

_generator = random.Random()
os.register_at_fork(after_in_child=_generator.seed)


def unique_bytes(count: int) -> bytes:
    return _generator.randbytes(count)


def unique_hex(count: int = 8) -> str:
    """Two digits a byte."""
    return _generator.randbytes(count).hex()
