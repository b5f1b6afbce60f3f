"""What a Sentence-Transformers folder says of itself: modules, lengths, pooling, digest.

`read_folder` reads the folders that our own forward pass computes; `describe_folder` any other one as well, which
Sentence-Transformers itself then encodes with.
"""

import hashlib
import json
import re
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
UNLIMITED = 1 << 20
"""Positions of encoders that are as long as a text."""
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU")
READ_ORDER = re.compile("Transformer Pooling( Dense)*( Normalize)?")
DENSE_USUAL = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding",
                "use_residual": False}  # fmt: skip
TRANSFORMER = "sentence_bert_config.json"
WHOLE = "as a whole"
"""The pooling of a folder that Sentence-Transformers reads and we don't."""
NO_PART = (".md", ".txt.asc", ".gitattributes", ".png", ".jpg")
"""Files of a folder that change no vector."""


@dataclass(frozen=True)
class EncoderFolder:
    """A folder that holds a sentence encoder."""

    path: Path
    dimensions: int  # d, of the vectors
    max_tokens: int  # what the model was made for
    longest: int  # positions the model has
    pooling: str  # mean | cls | max | WHOLE
    dense: tuple[Path, ...]  # folders of dense layers after the pooling, in order
    pad_id: int
    unread: str | None = None  # why our forward pass can't compute it

    @property
    def is_whole(self) -> bool:
        """Whether Sentence-Transformers has to encode with it."""
        return self.unread is not None

    def cut_at(self, asked: int | None) -> int:
        """Tokens of a text that are read, when so many are asked for (None: what the model was made for)."""
        return min(asked or self.max_tokens, self.longest)

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
        if self.is_whole:  # its modules may read any of them
            files = (file for file in self.path.rglob("*") if file.is_file() and not file.name.startswith("."))
            return {file for file in files if not file.name.endswith(NO_PART)}
        patterns = (*WEIGHTS, "tokenizer.json", "config.json", "modules.json")
        return {file for pattern in patterns for file in self.path.rglob(pattern) if file.is_file()}


def describe_folder(path: Path) -> EncoderFolder:
    """As `read_folder`; any other folder with modules or a configuration is described as a whole. Raises ValueError."""
    try:
        return read_folder(path)
    except ValueError as error:
        if not any((path / name).is_file() for name in ("modules.json", "config.json")):
            raise
        return EncoderFolder(path, 0, _whole_length(path), UNLIMITED, WHOLE, (), 0, str(error))


def _whole_length(path: Path) -> int:
    """Tokens that its first module cuts at, as far as configurations say."""
    folder = path / next((module["path"] for module in _json(path / "modules.json", [])), "")
    said = _json(folder / TRANSFORMER).get("max_seq_length")
    return int(said or min(DEFAULT_TOKENS, _json(folder / "tokenizer_config.json").get("model_max_length", UNLIMITED)))


def read_folder(path: Path) -> EncoderFolder:
    """Raises ValueError that says what the folder lacks, or has beyond what our forward pass computes."""
    for needed in ("config.json", "tokenizer.json"):
        if not (path / needed).is_file():
            raise ValueError(
                f"{path.name} is no sentence encoder: it has no {needed}; give a Sentence-Transformers folder"
            )
    config, transformer = _json(path / "config.json"), _json(path / TRANSFORMER)
    if transformer.get("do_lower_case"):
        raise ValueError(f"{path.name}/{TRANSFORMER} has do_lower_case; read are tokenizers that do it themselves")
    if (prompt := _json(path / "config_sentence_transformers.json").get("default_prompt_name")) is not None:
        raise ValueError(f"{path.name} puts its prompt {prompt!r} before a text; read are encoders without a default")
    pooling, dense = _modules(path)
    dimensions = _json(dense[-1] / "config.json")["out_features"] if dense else _hidden(config, path)
    pad_id = int(config.get("pad_token_id") or 0)
    longest = int(config.get("max_position_embeddings", DEFAULT_TOKENS))
    longest -= pad_id + 1 if config.get("model_type") in OFFSET_POSITIONS else 0
    said = transformer.get("max_seq_length") or min(longest, DEFAULT_TOKENS)
    return EncoderFolder(path, int(dimensions), int(said), longest, pooling, tuple(dense), pad_id)


def _hidden(config: dict[str, Any], path: Path) -> int:
    found = next((config[name] for name in HIDDEN if name in config), None)
    if found is None:
        raise ValueError(f"{path.name}/config.json names none of {', '.join(HIDDEN)}: no text encoder that is read")
    return int(found)


def _modules(path: Path) -> tuple[str, list[Path]]:
    """(pooling, dense layers) of `modules.json`; without one: mean pooling."""
    modules = _json(path / "modules.json", [])
    kinds = [_kind(module["type"]) for module in modules]
    if modules and (modules[0]["path"] or not READ_ORDER.fullmatch(" ".join(kinds))):
        raise ValueError(f"{path.name} has modules {', '.join(kinds)}; read are Transformer in the folder's root, "
                         "Pooling, Dense, Normalize in this order")  # fmt: skip
    pooling = [_pooling(_json(path / module["path"] / "config.json")) for module in modules[1:2]] or ["mean"]
    return pooling[0], [_dense(path / module["path"])
                        for module, kind in zip(modules, kinds, strict=True) if kind == "Dense"]  # fmt: skip


def _kind(module: str) -> str:
    """A module's class; with its package, where that isn't Sentence-Transformers."""
    return module.rpartition(".")[2] if module.startswith("sentence_transformers.") else module


def _dense(folder: Path) -> Path:
    config = _json(folder / "config.json")
    activation = config.get("activation_function", "Tanh").rpartition(".")[2]
    if others := [name for name, usual in DENSE_USUAL.items() if config.get(name, usual) != usual]:
        raise ValueError(f"dense layer {folder.name} has {', '.join(f'{name} {config[name]}' for name in others)}")
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
