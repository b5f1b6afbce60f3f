"""Counter-based randomness: every draw is a function of (seed; run, month, purpose, agent, draw) and of nothing else.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011), evaluated on whole
arrays. Since no stream is shared, neither the chunk a run is computed in nor the host an agent lives on changes a draw.
`Draws.uniform` is the entry point.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

UInt = NDArray[np.uint64]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and √3 − 1: the key's increments
LOW_32 = np.uint64(0xFFFFFFFF)
SHIFT_32 = np.uint64(32)


class Purpose(IntEnum):
    """What a draw decides; part of the counter, so that no two decisions share a number."""

    POLICY = 0
    LOTTERY = 1
    ORDER = 2
    SHARES = 3
    ITEM = 4


def philox4x32(counter: tuple[UInt, UInt, UInt, UInt], key: tuple[int, int]) -> tuple[UInt, UInt, UInt, UInt]:
    """Ten rounds over four arrays of 32-bit words (held in 64 bits); the arrays broadcast."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = MULTIPLIERS[0] * x0, MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (
            (product1 >> SHIFT_32) ^ x1 ^ np.uint64(k0),
            product1 & LOW_32,
            (product0 >> SHIFT_32) ^ x3 ^ np.uint64(k1),
            product0 & LOW_32,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return x0, x1, x2, x3


@dataclass(frozen=True)
class Draws:
    """The draws of one job."""

    seed: int

    def uniform(self, purpose: Purpose, run: Ints, month: int, agent: Ints | int, draw: int = 0) -> Floats:
        """Numbers in (0, 1) on a grid of 2⁻⁵³, never 0 or 1; `run` and `agent` broadcast against each other."""
        counter = (
            np.asarray(draw, dtype=np.uint64),
            np.asarray(agent).astype(np.uint64),
            np.asarray(month | int(purpose) << 16, dtype=np.uint64),
            np.asarray(run).astype(np.uint64),
        )
        high, low, _, _ = philox4x32(counter, (self.seed, 0))
        bits_52 = (high << np.uint64(20)) | (low >> np.uint64(12))
        return (bits_52.astype(np.float64) + 0.5) * 2.0**-52

    def integer(self, low: Ints | int, high: Ints | int, uniform: Floats) -> Ints:
        """Whole numbers low..high, both included, from uniform numbers; equally likely up to (high − low) · 2⁻⁵²."""
        span = np.asarray(high) - low + 1
        return np.asarray(low + np.floor(uniform * span), dtype=np.int64)
