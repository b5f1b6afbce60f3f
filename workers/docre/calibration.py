"""From l_r − l_TH to the probability that a candidate is right: isotonic or Platt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from workers.docre.decoding import Ranked

Method = Literal["isotonic", "platt"]
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """A non-decreasing map from margin to probability."""

    method: Method
    x: tuple[float, ...]
    """isotonic: margins of the steps, ascending; platt: (slope, offset)."""
    y: tuple[float, ...] = ()
    """isotonic: the probability at each."""

    def probability(self, margins: NDArray[Any]) -> NDArray[np.float64]:
        """p of each margin; between the steps in a line, outside as at the ends."""
        if self.method == "platt":
            slope, offset = self.x
            return np.asarray(_sigmoid(slope * np.asarray(margins, np.float64) + offset))
        if not self.x:
            return np.zeros(np.shape(margins))
        return np.asarray(np.interp(margins, self.x, self.y))

    def as_json(self) -> dict[str, Any]:
        return {"method": self.method, "x": list(self.x), "y": list(self.y)}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> "Calibration":
        return cls(value["method"], tuple(value["x"]), tuple(value["y"]))


def calibrate(candidates: Ranked, method: Method) -> Calibration:
    """Fit on candidates whose truth is known."""
    margins, truth = candidates.margins[::-1], candidates.is_gold[::-1].astype(np.float64)
    if method == "platt":
        return _platt(margins, truth)
    if not len(margins):
        return Calibration("isotonic", ())
    fitted = optimize.isotonic_regression(truth).x
    # One point at each end of a step describes it whole.
    edge = np.flatnonzero(np.diff(fitted))
    keep = np.unique(np.concatenate([[0], edge, edge + 1, [len(fitted) - 1]])).astype(int)
    return Calibration("isotonic", tuple(margins[keep].tolist()), tuple(fitted[keep].tolist()))


def _platt(margins: NDArray[Any], truth: NDArray[np.float64]) -> Calibration:
    """Logistic regression on the margin, with Platt's smoothed targets."""
    if not len(margins):
        return Calibration("platt", (1.0, 0.0))
    positive = truth.sum()
    target = np.where(truth > 0, (positive + 1) / (positive + 2), 1 / (len(truth) - positive + 2))

    def loss(parameters: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        z = parameters[0] * margins + parameters[1]
        value = float(np.mean(np.logaddexp(0, z) - target * z))
        error = (_sigmoid(z) - target) / len(z)
        return value, np.array([error @ margins, error.sum()])

    found = optimize.minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x
    return Calibration("platt", (float(found[0]), float(found[1])))


def _sigmoid(z: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -500, 500))))


def reliability(p: Sequence[float] | NDArray[Any], truth: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Mean p, share of truth and count of each tenth of the scale that has candidates."""
    values = np.asarray(p, np.float64)
    bins = np.minimum((values * BINS).astype(int), BINS - 1)
    return [
        {"p": float(values[bins == b].mean()), "true": float(truth[bins == b].mean()), "count": int((bins == b).sum())}
        for b in range(BINS)
        if (bins == b).any()
    ]
