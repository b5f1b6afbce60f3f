"""The early-exit loss (section 4.1.2): J_t = Σ_l ẽ(t,l)·CE(g(x_{l+1}), Y), ẽ = C(t,l)·e(l) / Σ_i C(t,i)·e(i).

Layers are 0-based: index l stands for the exit after layer l, E = l + 1.
"""

from collections.abc import Sequence
from typing import Literal

Weights = Literal["sum", "uniform", "linear", "sqrt", "inv"]


def exit_weights(layers: int, e_scale: float, kind: Weights = "sum") -> list[float]:
    """e(l). `sum` is the paper's: e_scale·l(l+1)/2, and (L − 1) + e_scale·(L−2)(L−1)/2 for the last layer.

    The others are e_scale times 1, l + 1, √(l + 1), 1 / (l + 1); the last layer's isn't scaled. One layer has weight 1.
    """
    if layers == 1:
        return [1.0]
    if kind == "sum":
        early = [e_scale * layer * (layer + 1) / 2 for layer in range(layers - 1)]
        return [*early, (layers - 1) + e_scale * (layers - 2) * (layers - 1) / 2]
    power = {"uniform": 0.0, "linear": 1.0, "sqrt": 0.5, "inv": -1.0}[kind]
    return [(1.0 if layer == layers - 1 else e_scale) * (layer + 1.0) ** power for layer in range(layers)]


def rotational(layers: int, step: int, R: int, always_last: bool = True) -> list[int]:
    """Exits of step t: l ≡ t (mod R), and the last layer."""
    return [layer for layer in range(layers) if layer % R == step % R or (always_last and layer == layers - 1)]


def rolled(mask: Sequence[bool], step: int, always_last: bool = True) -> list[int]:
    """A mask of one flag a layer, rolled onwards by one each step."""
    layers = len(mask)
    return [
        layer for layer in range(layers)
        if mask[(layer - step) % layers] or (always_last and layer == layers - 1)
    ]  # fmt: skip


def gradual(layers: int, step: int, steps: int, always_last: bool = True) -> list[int]:
    """Layers join from the last down, one every T/(2L) steps: l is in from t/T ≥ (L − l)/(2L) on."""
    return [
        layer for layer in range(layers)
        if 2 * layers * step >= (layers - layer) * steps or (always_last and layer == layers - 1)
    ]  # fmt: skip


def normalised(weights: Sequence[float], enabled: Sequence[int]) -> dict[int, float]:
    """ẽ by layer over the enabled exits; those without weight are left out. Empty: there is nothing to learn."""
    total = sum(weights[layer] for layer in enabled)
    return {layer: weights[layer] / total for layer in enabled if weights[layer] > 0} if total > 0 else {}


def one_early_exit(layers: int, step: int) -> dict[int, float]:
    """TRL's example: exit 1 … L − 1 in turn and the last layer, half each."""
    if layers == 1:
        return {0: 1.0}
    return {step % (layers - 1): 0.5, layers - 1: 0.5}
