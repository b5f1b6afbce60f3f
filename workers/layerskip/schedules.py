"""How layer dropout grows over layers and steps (section 4.1.1): p_{l,t} = S(t)·D(l)·p_max."""

import math
from collections.abc import Callable
from typing import Literal

Scale = Literal["exp", "linear", "uniform", "log", "sin", "sigmoid"]


def rising_exp(share: float) -> float:
    """e^{share·ln 2} − 1: 0 at 0, 1 at 1."""
    return math.exp(share * math.log(2)) - 1


SCALES: dict[str, Callable[[float], float]] = {
    "exp": rising_exp,
    "linear": lambda share: share,
    "uniform": lambda share: 1.0,
    "log": lambda share: math.log(1 + share * (math.e - 1)),
    "sin": lambda share: math.sin(0.5 * math.pi * share),
    "sigmoid": lambda share: 1 / (1 + math.exp(-10 * (share - 0.5))),
}
"""D by share = l / (L − 1). The paper's is exp."""


def depth_scale(layer: int, layers: int, scale: Scale = "exp") -> float:
    """D(l), l = 0 … L − 1; 1 for a model of one layer."""
    return SCALES[scale](layer / (layers - 1)) if layers > 1 else 1.0


def step_scale(step: int, steps: int, curriculum: Literal["none", "exp"]) -> float:
    """S(t), t = 0 … T − 1: grows from 0 to 1 when training from scratch, is 1 when going on from a checkpoint."""
    if curriculum == "none" or steps == 1:
        return 1.0
    return rising_exp(step / (steps - 1))


def dropout_rates(layers: int, at_step: float, p_max: float, scale: Scale = "exp") -> list[float]:
    """p_{l,t} of every layer, `at_step` being S(t)."""
    return [at_step * depth_scale(layer, layers, scale) * p_max for layer in range(layers)]


def learning_rate_scale(step: int, steps: int, warmup: int, lowest: float) -> float:
    """Linear warm-up to 1, then a cosine down to `lowest` at the last step."""
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, steps - 1 - warmup)
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
