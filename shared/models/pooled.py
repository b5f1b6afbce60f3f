"""A sentence encoder as one torch module: transformer, pooling, dense layers, normalisation.

The only module here that imports torch and transformers.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.models.folder import EncoderFolder


class Pooled(nn.Module):
    """(token ids, attention mask), both (batch, length) → unit vectors (batch, d)."""

    def __init__(self, transformer: Any, pooling: str, dense: list[nn.Module]) -> None:
        super().__init__()
        self.transformer, self.pooling, self.dense = transformer, pooling, nn.ModuleList(dense)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = self._pool(states, attention_mask.unsqueeze(-1).to(states.dtype))
        for layer in self.dense:
            pooled = layer(pooled)
        return nn.functional.normalize(pooled, dim=-1)

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "max":
            return torch.where(mask > 0, states, torch.finfo(states.dtype).min).amax(dim=1)
        return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)


def load_pooled(folder: EncoderFolder) -> Pooled:
    """The module in float32, ready for inference. Attention is written out, so that it can be traced."""
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModel.from_pretrained(folder.path, attn_implementation="eager", dtype=torch.float32)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    return Pooled(model, folder.pooling, [_dense(layer) for layer in folder.dense]).eval()


def torch_forward(folder: EncoderFolder) -> Any:
    model = load_pooled(folder)

    def forward(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            vectors: NDArray[np.float32] = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        return vectors

    return forward


def _dense(layer: Path) -> nn.Module:
    import json

    from safetensors.torch import load_file

    config = json.loads((layer / "config.json").read_text())
    linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    weights = load_file(layer / "model.safetensors")
    linear.load_state_dict({name.removeprefix("linear."): weight for name, weight in weights.items()})
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh").rpartition(".")[2]
    return nn.Sequential(linear, getattr(nn, activation)())  # one of ACTIVATIONS
