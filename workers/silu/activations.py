"""The activations that are compared, with their variance-preserving gains."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
}

SQUARES = {"relu": 0.5, "gelu": 0.425221482570299, "silu": 0.355775519817352, "mish": 0.452342192375882}
"""E f² of x ~ N(0, 1); He's weights suppose ReLU's, 1/2."""


def gain_of(activation: str) -> float:
    """1/√E f²: weights of this spread over fan-in keep the mean square."""
    return float(SQUARES[activation] ** -0.5)
