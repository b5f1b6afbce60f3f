"""Rotary position embedding (RoFormer, arXiv 2104.09864) with the scalings of Llama checkpoints.

Half-split: dimension i turns with dimension i + head/2, as Hugging Face stores Llama's weights.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SCALINGS = ("default", "linear", "llama3")


def inverse_frequencies(head_dim: int, base: float, scaling: Mapping[str, Any] | None = None) -> Tensor:
    """(head_dim / 2,) radians per position. Raises ValueError for a scaling this code doesn't know."""
    inverse = base ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    kind = (scaling or {}).get("rope_type") or (scaling or {}).get("type") or "default"
    if kind == "default":
        return inverse.float()
    if kind == "linear":
        return (inverse / float((scaling or {})["factor"])).float()
    if kind == "llama3":
        return _llama3(inverse, scaling or {}).float()
    raise ValueError(f"rope scaling {kind!r} is not known; known: {', '.join(SCALINGS)}")


def _llama3(inverse: Tensor, scaling: Mapping[str, Any]) -> Tensor:
    """Long waves are stretched by `factor`, short ones left, those between blended (Llama 3.1)."""
    factor, low, high = (float(scaling[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = float(scaling["original_max_position_embeddings"])
    wavelength = 2 * math.pi / inverse
    blend = ((trained / wavelength - low) / (high - low)).clamp(0, 1)  # 0: long waves, 1: short waves
    return inverse / factor * (1 - blend) + inverse * blend


def cos_sin(positions: int, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Two (positions, head_dim): the angles of every position, each half twice."""
    angles = torch.outer(torch.arange(positions, dtype=torch.float32, device=inverse.device), inverse)
    both = torch.cat((angles, angles), dim=-1)
    return both.cos(), both.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (…, length, head_dim) turned by the angles (length, head_dim)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def turns(positions: int, inverse: Tensor) -> Tensor:
    """(positions, head_dim / 2) complex numbers e^{iθ}, for vectors whose pairs lie side by side."""
    angles = torch.outer(torch.arange(positions, dtype=torch.float32, device=inverse.device), inverse)
    return torch.polar(torch.ones_like(angles), angles)


def side_by_side(rows: Tensor, head_dim: int) -> Tensor:
    """A projection's rows (heads·head_dim, d) reordered so that dimensions i and i + head/2 are neighbours.

    Queries and keys reordered alike have the same products, and turning a pair is one complex product.
    """
    halves = rows.view(-1, 2, head_dim // 2, rows.shape[-1])
    return halves.transpose(1, 2).reshape(rows.shape)
