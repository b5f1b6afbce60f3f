"""Mean and second moment of an index's rows: the background of a query without reading a row, and the map's axes."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROWS = 16_384


class Spread(NamedTuple):
    """Mean and population standard deviation of scores."""

    mean: float
    sd: float


def moments_of(vectors: NDArray[Any]) -> Floats:
    """(d + 1, d): the mean row, then the mean of x xᵀ."""
    d = vectors.shape[1]
    total, second = np.zeros(d), np.zeros((d, d))
    for start in range(0, len(vectors), ROWS):
        block = np.asarray(vectors[start : start + ROWS], np.float64)
        total += block.sum(axis=0)
        second += block.T @ block
    return np.vstack([total, second]) / max(1, len(vectors))


def background(query: NDArray[Any], moments: Floats) -> Spread:
    """Of the cosines q·x over all rows: mean q·m, variance qᵀ M q − (q·m)²."""
    q = np.asarray(query, np.float64)
    mean = float(q @ moments[0])
    return Spread(mean, max(0.0, float(q @ moments[1:] @ q) - mean**2) ** 0.5)


def principal_axes(moments: Floats) -> NDArray[np.float32]:
    """(2, d): the first two principal axes of the rows, each with its largest entry positive."""
    mean, second = moments[0], moments[1:]
    _, vectors = np.linalg.eigh(second - np.outer(mean, mean))
    axes = vectors[:, ::-1][:, :2].T
    if len(axes) < 2:
        axes = np.vstack([axes, np.zeros_like(axes)])
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])
    return np.asarray(axes * np.where(signs == 0, 1, signs)[:, None], np.float32)
