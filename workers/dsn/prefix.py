"""Reuse of the attention cache of what all candidates share: the conversation before the suffix, and its beginning.

Caches are changed in place by a forward pass, so every batch gets a fresh one (`expanded`). The model's own cache class
is used, so that sliding windows keep their rules.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


def prefix_cache(model: Any, ids: Tensor) -> Any:
    """The cache of tokens (rows, length) that nothing precedes."""
    return extended(model, DynamicCache(config=model.config), ids)


@torch.no_grad()
def extended(model: Any, cache: Any, ids: Tensor) -> Any:
    """The same cache with further tokens (rows, length); the old one stays as it was."""
    fresh = expanded(cache, 1)
    if ids.shape[1]:
        model(input_ids=ids, past_key_values=fresh, use_cache=True, logits_to_keep=1)
    return fresh


def expanded(cache: Any, rows: int) -> Any:
    """A fresh cache for a batch: each row of the old one `rows` times, without copying it yet."""
    fresh = copy.copy(cache)
    fresh.layers = [_layer(layer, rows) for layer in cache.layers]
    return fresh


def stacked(caches: list[Any]) -> Any:
    """One cache of the caches' rows, all of the same length."""
    fresh = copy.copy(caches[0])
    fresh.layers = [copy.copy(layer) for layer in caches[0].layers]
    for number, layer in enumerate(fresh.layers):
        if getattr(layer, "keys", None) is not None:
            layer.keys = torch.cat([cache.layers[number].keys for cache in caches])
            layer.values = torch.cat([cache.layers[number].values for cache in caches])
    return fresh


def _layer(layer: Any, rows: int) -> Any:
    new = copy.copy(layer)
    if rows > 1 and getattr(layer, "keys", None) is not None:
        new.keys, new.values = _repeated(layer.keys, rows), _repeated(layer.values, rows)
    return new


def _repeated(tensor: Tensor, rows: int) -> Tensor:
    if tensor.shape[0] == 1:
        return tensor.expand(rows, *tensor.shape[1:])
    return tensor.repeat_interleave(rows, dim=0)
