"""The losses of the two alignment recipes."""

import torch
from torch import Tensor, nn


def cosine_loss(u: Tensor, v: Tensor, labels: Tensor) -> Tensor:
    """mean (cos(u, v) − label)²; u, v (batch, d), labels (batch,) of 0 and 1. The official recipe's."""
    return ((nn.functional.cosine_similarity(u, v, dim=1) - labels) ** 2).mean()


def category_loss(a: Tensor, b: Tensor, categories: Tensor, tau: float) -> Tensor:
    """Mean over rows of `category_losses`."""
    return category_losses(a, b, categories, tau).mean()


def category_losses(a: Tensor, b: Tensor, categories: Tensor, tau: float) -> Tensor:
    """(batch,): −mean_{j: c_j = c_i} log softmax_j S_ij with S = a bᵀ/τ; supervised InfoNCE over rows.

    a, b (batch, d) are unit vectors of two different tasks of each drawn category.
    """
    log_softmax = nn.functional.log_softmax(a @ b.T / tau, dim=1)
    same = (categories[:, None] == categories[None, :]).to(log_softmax.dtype)
    return -(log_softmax * same).sum(dim=1) / same.sum(dim=1)


def distance_to_identity(head: Tensor) -> Tensor:
    """‖W − I‖_F²."""
    return ((head - torch.eye(len(head), dtype=head.dtype)) ** 2).sum()
