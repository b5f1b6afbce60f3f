"""The model behind a reference, refused before its weights load where its config already shows what is wrong."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.llm.model_cache import ModelCache, ModelKey
from shared.llm.model_folder import model_folder
from shared.models.llama import Llama, LlamaConfig
from shared.models.llama_checkpoint import load_llama, read_config
from shared.models.llama_decoder import LlamaDecoder
from shared.models.skinny_gemm import compiled
from workers.layerskip.tokenising import Tokens, tokens_of

MOST_BYTES = 4 * 2**30  # of decoders kept warm
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose config and tokenizer are read and whose weights aren't."""

    ref: str
    folder: Path
    digest: str
    config: LlamaConfig
    tokens: Tokens | None

    def check_exit(self, exit_layer: int, field: str = "exit_layer") -> None:
        """Raises InvalidInput unless 1 ≤ E < L."""
        last = self.config.layers - 1
        if not 1 <= exit_layer <= last:
            raise InvalidInput(
                f"{field} {exit_layer} is outside 1..{last} for the {self.config.layers} layers of {self.ref}"
            )

    def load(self, dtype: torch.dtype, device: str) -> Llama:
        """The weights. Raises InvalidInput."""
        try:
            return load_llama(self.folder, dtype, device)
        except ValueError as error:
            raise InvalidInput(f"{self.ref}: {error}") from None


def open_model(ref: Ref, ctx: JobContext) -> Opened:
    """Config and tokenizer of a model. Raises InvalidInput: no Llama, pickled weights, unknown rope scaling."""
    found = model_folder(ref, ctx, ctx.cache_dir / "models")
    try:
        config = read_config(found.path)
    except (ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InvalidInput(f"{ref} is no Llama checkpoint: {error}") from None
    return Opened(str(ref), found.path, found.digest, config, tokens_of(found.path))


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype_of(name: str, device: str) -> torch.dtype:
    """auto: float32 on the CPU, bfloat16 on CUDA."""
    return TYPES[("float32" if device == "cpu" else "bfloat16") if name == "auto" else name]


_decoders: ModelCache[LlamaDecoder] = ModelCache(lambda decoder: decoder.bytes)


def decoder_of(opened: Opened, dtype_name: str, ctx: JobContext) -> LlamaDecoder:
    """The model ready to decode, warm from an earlier job or loaded now."""
    device = best_device()
    dtype = dtype_of(dtype_name, device)
    kernel = compiled(ctx.cache_dir / "kernels", ctx.log) if (device, dtype) == ("cpu", torch.float32) else None
    key = ModelKey(opened.digest, f"{dtype} {'skinny' if kernel else 'plain'}", device)
    return _decoders.get(key, lambda: LlamaDecoder(opened.load(dtype, device), kernel), MOST_BYTES)
