"""What a Sentence-Transformers folder says of itself: modules, lengths, pooling, digest."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
HIDDEN = ("hidden_size", "dim", "d_model")
"""What configurations call the length of a token's state."""
OFFSET_POSITIONS = ("camembert", "mpnet", "roberta", "xlm-roberta")
"""Their positions begin behind the padding's own."""
WEIGHTS = ("*.safetensors", "*.bin", "*.onnx")
DEFAULT_TOKENS = 512
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU")


@dataclass(frozen=True)
class EncoderFolder:
    """A folder that holds a sentence encoder."""

    path: Path
    dimensions: int  # d, of the vectors
    max_tokens: int  # what the model was made for
    longest: int  # positions the model has
    pooling: str  # mean | cls | max
    dense: tuple[Path, ...]  # folders of dense layers after the pooling, in order
    pad_id: int

    @cached_property
    def digest(self) -> str:
        """SHA-256 over weights, tokenizer and configuration, name after name."""
        sha = hashlib.sha256()
        for file in sorted(self._files()):
            sha.update(f"{file.relative_to(self.path)}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as handle:
                while chunk := handle.read(1 << 20):
                    sha.update(chunk)
        return sha.hexdigest()

    @property
    def onnx(self) -> Path | None:
        """The folder's ONNX file of the transformer, if it brings one."""
        found = [file for name in ("onnx/model.onnx", "model.onnx") if (file := self.path / name).is_file()]
        return found[0] if found and not self.dense else None

    def _files(self) -> set[Path]:
        patterns = (*WEIGHTS, "tokenizer.json", "config.json", "modules.json")
        return {file for pattern in patterns for file in self.path.rglob(pattern) if file.is_file()}


def read_folder(path: Path) -> EncoderFolder:
    """Raises ValueError that says what the folder lacks."""
    for needed in ("config.json", "tokenizer.json"):
        if not (path / needed).is_file():
            raise ValueError(
                f"{path.name} is no sentence encoder: it has no {needed}; give a Sentence-Transformers folder"
            )
    config = _json(path / "config.json")
    pooling, dense = _modules(path)
    dimensions = _json(dense[-1] / "config.json")["out_features"] if dense else _hidden(config, path)
    pad_id = int(config.get("pad_token_id") or 0)
    longest = int(config.get("max_position_embeddings", DEFAULT_TOKENS))
    longest -= pad_id + 1 if config.get("model_type") in OFFSET_POSITIONS else 0
    said = _json(path / "sentence_bert_config.json").get("max_seq_length") or min(longest, DEFAULT_TOKENS)
    return EncoderFolder(path, int(dimensions), int(said), longest, pooling, tuple(dense), pad_id)


def _hidden(config: dict[str, Any], path: Path) -> int:
    found = next((config[name] for name in HIDDEN if name in config), None)
    if found is None:
        raise ValueError(f"{path.name}/config.json names none of {', '.join(HIDDEN)}: no text encoder that is read")
    return int(found)


def _modules(path: Path) -> tuple[str, list[Path]]:
    """(pooling, dense layers) of `modules.json`; without one: mean pooling."""
    pooling, dense = "mean", []
    for module in _json(path / "modules.json", []):
        kind = module["type"].rpartition(".")[2]
        if kind == "Pooling":
            pooling = _pooling(_json(path / module["path"] / "config.json"))
        elif kind == "Dense":
            dense.append(_dense(path / module["path"]))
        elif kind not in ("Transformer", "Normalize"):
            raise ValueError(f"{path.name} has a module {kind}; read are Transformer, Pooling, Dense and Normalize")
    return pooling, dense


def _dense(folder: Path) -> Path:
    activation = _json(folder / "config.json").get("activation_function", "Tanh").rpartition(".")[2]
    if activation not in ACTIVATIONS or not (folder / "model.safetensors").is_file():
        raise ValueError(
            f"dense layer {folder.name} has activation {activation}; read are {', '.join(ACTIVATIONS)} with weights in "
            "model.safetensors"
        )
    return folder


def _pooling(config: dict[str, Any]) -> str:
    mode = config.get("pooling_mode")
    said = [name for field, value in config.items() if field.startswith("pooling_mode_") and value
            for name in [POOLINGS.get(field)]]  # fmt: skip
    chosen = [mode] if mode is not None else said
    if len(chosen) != 1 or chosen[0] not in POOLINGS.values():
        raise ValueError(f"pooling {mode or sorted(config)} is not read; known: one of mean, cls, max")
    return str(chosen[0])


def _json(path: Path, otherwise: Any = None) -> Any:
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    return {} if otherwise is None else otherwise
