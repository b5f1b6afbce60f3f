"""Hugging Face Llama folders: read into our `Llama`, and written so that transformers reads the same logits.

Weights are safetensors, one file or shards. `load_llama`, `read_config` and `save_llama` are the entry points; every
refusal is a ValueError that says what would be accepted.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from shared.models.llama import Llama, LlamaConfig
from shared.models.rotary import inverse_frequencies

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
OWN_FIELDS = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
    "rope_parameters", "tie_word_embeddings", "bos_token_id", "eos_token_id", "dtype", "torch_dtype", "model_type",
    "architectures", "hidden_act",
}  # fmt: skip


def read_config(folder: Path) -> LlamaConfig:
    """The shape of the checkpoint in a folder; reads no weights."""
    said: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _refuse_others(said)
    heads, width = int(said["num_attention_heads"]), int(said["hidden_size"])
    rope = said.get("rope_parameters") or said.get("rope_scaling") or {}
    scaling = dict(rope) if (rope.get("rope_type") or rope.get("type") or "default") != "default" else None
    eos = said.get("eos_token_id")
    config = LlamaConfig(
        vocab_size=int(said["vocab_size"]), hidden_size=width, intermediate_size=int(said["intermediate_size"]),
        layers=int(said["num_hidden_layers"]), heads=heads, kv_heads=int(said.get("num_key_value_heads") or heads),
        head_dim=int(said.get("head_dim") or width // heads), context=int(said.get("max_position_embeddings", 2048)),
        rms_eps=float(said.get("rms_norm_eps", 1e-6)),
        rope_theta=float(rope.get("rope_theta") or said.get("rope_theta") or 10_000.0), rope_scaling=scaling,
        tied=bool(said.get("tie_word_embeddings", False)), bos_id=said.get("bos_token_id"),
        eos_ids=tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),),
        about={name: value for name, value in said.items() if name not in OWN_FIELDS},
    )  # fmt: skip
    inverse_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)  # refuses unknown scalings
    return config


def _refuse_others(said: Mapping[str, Any]) -> None:
    if said.get("model_type") != "llama":
        raise ValueError(f"model_type is {said.get('model_type')!r}; only llama checkpoints are taken")
    for name in ("attention_bias", "mlp_bias"):
        if said.get(name):
            raise ValueError(f"{name} is set; Llama blocks without biases are taken")
    if said.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ValueError(f"hidden_act is {said['hidden_act']!r}; silu is taken")
    needed = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    if missing := [name for name in needed if name not in said]:
        raise ValueError(f"config.json lacks {', '.join(missing)}")


def load_llama(folder: Path, dtype: torch.dtype | None = None, device: str = "cpu") -> Llama:
    """The model; `dtype` None keeps the stored type."""
    config = read_config(folder)
    weights = _read_weights(folder)
    _check_head(config, weights)
    if config.tied:
        weights[HEAD] = weights[EMBEDDING]
    stored = weights[EMBEDDING].dtype
    with torch.device("meta"):
        model = Llama(config)
    _check_shapes(model, weights)
    model = model.to_empty(device=device).to(dtype or stored)
    if config.tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(weights[name])
    return model.eval()


def _read_weights(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            weights.update(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path.name} can't be read: {error}") from None
    if not weights:
        raise ValueError("no *.safetensors; pickled weights are not loaded")
    return {name: weight for name, weight in weights.items() if not name.endswith("rotary_emb.inv_freq")}


def _check_head(config: LlamaConfig, weights: Mapping[str, Tensor]) -> None:
    """What the config says of the head must be what the files hold."""
    if EMBEDDING not in weights:
        raise ValueError(f"the weights hold no {EMBEDDING}: not a Llama checkpoint for causal language modelling")
    if config.tied and HEAD in weights and not torch.equal(weights[HEAD], weights[EMBEDDING]):
        raise ValueError(
            f"tie_word_embeddings is true, but {HEAD} differs from {EMBEDDING}; set tie_word_embeddings to false, or "
            f"leave {HEAD} out"
        )
    if not config.tied and HEAD not in weights:
        raise ValueError(f"tie_word_embeddings is false, but {HEAD} is missing; set it to true for a tied head")


def _check_shapes(model: Llama, weights: Mapping[str, Tensor]) -> None:
    wanted = dict(model.state_dict(keep_vars=True))
    if missing := sorted(set(wanted) - set(weights)):
        raise ValueError(f"weights are missing: {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}")
    if unknown := sorted(set(weights) - set(wanted)):
        raise ValueError(f"weights that no Llama block has: {', '.join(unknown[:4])}")
    for name, weight in wanted.items():
        if weights[name].shape != weight.shape:
            have = tuple(weights[name].shape)
            raise ValueError(f"{name} is {have}, config.json makes it {tuple(weight.shape)}")


def save_llama(model: Llama) -> dict[str, bytes]:
    """config.json and model.safetensors, by file name; gate and up are two matrices, as Hugging Face keeps them."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    if model.config.tied:
        del weights[HEAD]
    dtype = str(model.lm_head.weight.dtype).removeprefix("torch.")
    config = json.dumps(config_json(model.config, dtype), indent=2, sort_keys=True)
    return {"config.json": config.encode(), "model.safetensors": save(weights, {"format": "pt"})}


def config_json(config: LlamaConfig, dtype: str) -> dict[str, Any]:
    """config.json as Hugging Face writes it; rope in the old and the new place."""
    rope = {"rope_type": "default", **(config.rope_scaling or {}), "rope_theta": config.rope_theta}
    eos: list[int] | int | None = list(config.eos_ids) or None
    return {
        **config.about, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "vocab_size": config.vocab_size, "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size, "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads, "head_dim": config.head_dim,
        "max_position_embeddings": config.context, "rms_norm_eps": config.rms_eps, "rope_theta": config.rope_theta,
        "rope_scaling": dict(config.rope_scaling) if config.rope_scaling else None, "rope_parameters": rope,
        "tie_word_embeddings": config.tied, "bos_token_id": config.bos_id,
        "eos_token_id": eos[0] if isinstance(eos, list) and len(eos) == 1 else eos, "dtype": dtype,
    }  # fmt: skip
