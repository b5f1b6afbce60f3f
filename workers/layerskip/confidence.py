"""When to stop drafting for lack of confidence: Hugging Face's rule, with its threshold learnt from what stood.

A draft ends after a token whose probability (temperature 1) is below the threshold. After each step the threshold is
estimated again from the ROC curve of "this draft stood" by its probability: the point with the least cost, where a
refused draft that is let through costs 1 and a draft that would have stood and is held back costs 3.
"""

import numpy as np
import torch
from sklearn.metrics import roc_curve
from torch import Tensor

LEAST_DRAFTS = 6  # before anything is estimated
HELD_BACK = 3.0  # cost of a good draft not made, against 1 for a bad one made


class Confidence:
    """The threshold of one prompt; 0: drafts are never cut."""

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold, self._first, self.cuts = threshold, threshold, threshold > 0
        self._probabilities: list[float] = []
        self._stood: list[bool] = []

    def begin(self) -> None:
        """A new prompt."""
        self.threshold = self._first
        self._probabilities, self._stood = [], []

    def sure(self, logits: Tensor, token: int) -> bool:
        """Whether to draft on after this token (logits (V) that it was chosen by)."""
        if not self.cuts:
            return True
        self._probabilities.append(float(torch.softmax(logits.float(), -1)[token]))
        return self._probabilities[-1] >= self.threshold

    def learn(self, accepted: int, drafted: int) -> None:
        """What stood of a step's drafts; those after the first refused one tell nothing."""
        if not self.cuts:
            return
        self._stood += [True] * accepted + [False] * (drafted > accepted)
        del self._probabilities[len(self._stood) :]
        if len(self._stood) >= LEAST_DRAFTS and len(set(self._stood)) == 2:
            false, true, thresholds = roc_curve(self._stood, self._probabilities)
            self.threshold = float(thresholds[int(np.argmin(false + HELD_BACK * (1 - true)))])
