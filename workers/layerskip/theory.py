"""What speed to expect of (E, K): section 2.5's formula, in units of one layer on one token.

S = G·(L + h) / (K·(E + h) + E + (L − E)·c(K + 1) + h·c_h(K + 1)), G = (1 − α^{K+1}) / (1 − α) tokens per step.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CostModel:
    """c(n), a pass of n tokens through one layer; h, the head on one token; c_h(n), the head on n against one."""

    c: Mapping[int, float]
    h: float
    c_head: Mapping[int, float]

    def of_pass(self, n: int) -> float:
        return _between(self.c, n)

    def of_head(self, n: int) -> float:
        return _between(self.c_head, n)


FREE = CostModel({1: 1.0, 64: 1.0}, 0.0, {1: 1.0, 64: 1.0})
"""c = 1, h = 0: a pass costs the same however many tokens, the head nothing."""


def _between(known: Mapping[int, float], n: int) -> float:
    """Linear between measured points, and on beyond the last two."""
    points = sorted(known)
    if len(points) > 1 and n > points[-1]:
        low, high = points[-2:]
        return known[high] + (known[high] - known[low]) / (high - low) * (n - high)
    return float(np.interp(n, points, [known[point] for point in points]))


def tokens_per_step(acceptance: float, drafts: int) -> float:
    """G for independent acceptance α; K + 1 when everything is accepted."""
    if acceptance >= 1:
        return drafts + 1.0
    return (1 - acceptance ** (drafts + 1)) / (1 - acceptance)


def step_cost(exit_layer: int, drafts: int, layers: int, costs: CostModel) -> float:
    """Of one speculative step: K drafts, the last draft's early layers, one verification pass."""
    rows, h = drafts + 1, costs.h
    late = (layers - exit_layer) * costs.of_pass(rows)
    return drafts * (exit_layer + h) + exit_layer + late + h * costs.of_head(rows)


def speedup_of(tokens: float, exit_layer: int, drafts: int, layers: int, costs: CostModel) -> float:
    """S at G tokens per step. With a measured rate r of accepted drafts, G = 1 + rK."""
    return tokens * (layers + costs.h) / step_cost(exit_layer, drafts, layers, costs)


def speedup(acceptance: float, exit_layer: int, drafts: int, layers: int, costs: CostModel = FREE) -> float:
    """S at acceptance α."""
    return speedup_of(tokens_per_step(acceptance, drafts), exit_layer, drafts, layers, costs)
