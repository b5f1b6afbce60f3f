"""Sentence encoders: text → unit vector, from a Sentence-Transformers folder.

WordPiece (or whatever the folder's tokenizer does), truncation at `max_tokens`, pooling with the attention mask, dense
layers if the folder has some, L2-normalisation. `SentenceEncoder.load` is the entry point.

Back ends: OpenVINO in bfloat16 where the processor computes in it, else in float32; ONNX Runtime where the folder
brings an ONNX file; torch. The OpenVINO form is converted once and kept under `cache`, so that a worker which finds it
there starts without importing torch. Folders that none of these reads (other poolings, other modules, prompts) are
encoded with by Sentence-Transformers itself: see `whole_encoder`.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.models.folder import EncoderFolder, describe_folder

Floats = NDArray[np.float32]
Tokens = NDArray[np.int64]
Backend = Literal["openvino-bf16", "openvino-f32", "onnx", "torch", "sentence-transformers"]
MODULES = {"onnx": "onnxruntime", "torch": "torch", "sentence-transformers": "sentence_transformers"}
"""Packages that back ends need; the others need OpenVINO."""
BATCH = 16
"""Sentences per forward pass: the fastest of 1, 8, 16, 32, 64 on one core."""

Forward = Callable[[Tokens, Tokens], Floats]
"""(token ids, attention mask), both (batch, length) → unit vectors (batch, d)."""


class BackendMissing(Exception):
    """The back end asked for can't run here; the message says what would."""


class Tokenised(NamedTuple):
    """One text as the model sees it."""

    ids: list[int]
    truncated: bool
    text: str


@dataclass
class SentenceEncoder:
    """A loaded encoder. One thread; keep it, loading costs seconds."""

    folder: EncoderFolder
    backend: Backend
    max_tokens: int
    tokenizer: Any
    forward: Forward

    @classmethod
    def load(
        cls,
        path: Path,
        backend: Backend | None = None,
        max_tokens: int | None = None,
        cache: Path | None = None,
    ) -> "SentenceEncoder":
        """The encoder in a folder. Raises ValueError for a folder that isn't one, BackendMissing."""
        folder = describe_folder(path)
        chosen = backend or best_backend(folder)
        if chosen == "sentence-transformers":
            _require(chosen)
            from shared.models.whole_encoder import load_whole

            return load_whole(folder, max_tokens)
        if folder.is_whole:
            raise BackendMissing(f"backend {chosen} does not read this folder: {folder.unread}; leave backend out")
        limit = folder.cut_at(max_tokens)
        return cls(folder, chosen, limit, _tokenizer(folder, limit), _forward(folder, chosen, cache))

    @property
    def dimensions(self) -> int:
        return self.folder.dimensions

    @property
    def digest(self) -> str:
        """SHA-256 of weights, tokenizer and pooling: the same digest gives the same vectors."""
        return self.folder.digest

    def tokenise(self, texts: Sequence[str]) -> list[Tokenised]:
        """Token ids of each text, cut at `max_tokens`."""
        encodings = self.tokenizer.encode_batch(list(texts)) if texts else []
        return [Tokenised(each.ids, bool(each.overflowing), text) for each, text in zip(encodings, texts, strict=True)]

    def encode(self, texts: Sequence[str], batch_size: int = BATCH) -> Floats:
        """Unit vectors (texts, d) in float32."""
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for rows, batch in self.batches(self.tokenise(texts), batch_size):
            vectors[rows] = batch
        return vectors

    def batches(self, texts: Sequence[Tokenised], batch_size: int = BATCH) -> Iterator[tuple[list[int], Floats]]:
        """(positions, their unit vectors), batch after batch, shortest texts first: little padding."""
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i].ids), i))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            yield rows, self.embed([texts[i] for i in rows])

    def embed(self, batch: Sequence[Tokenised]) -> Floats:
        """(batch, d) in one forward pass."""
        return self.forward(*self.pad([text.ids for text in batch]))

    def pad(self, rows: list[list[int]]) -> tuple[Tokens, Tokens]:
        """(ids, attention mask), both (rows, longest)."""
        longest = max(len(row) for row in rows)
        ids = np.full((len(rows), longest), self.folder.pad_id, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        return ids, mask


def best_backend(folder: EncoderFolder) -> Backend:
    """The fastest back end that this machine can run this folder with."""
    if folder.is_whole:
        return "sentence-transformers"
    if _installed("openvino"):
        return "openvino-bf16" if _computes_bfloat16() else "openvino-f32"
    if not _installed("torch") and _installed("onnxruntime") and folder.onnx:
        return "onnx"
    return "torch"


def can_run(backend: str) -> bool:
    """Whether this machine has what a back end needs; bfloat16 needs a processor for it."""
    return _installed(MODULES.get(backend, "openvino")) and (backend != "openvino-bf16" or _computes_bfloat16())


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@lru_cache(maxsize=1)
def _computes_bfloat16() -> bool:
    """Asked once: a core of OpenVINO takes milliseconds to make."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _tokenizer(folder: EncoderFolder, max_tokens: int) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder.path / "tokenizer.json"))
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer


def _forward(folder: EncoderFolder, backend: Backend, cache: Path | None) -> Forward:
    _require(backend)
    if backend == "torch":
        from shared.models.pooled import torch_forward

        forward: Forward = torch_forward(folder)
        return forward
    if backend == "onnx":
        return _onnx(folder)
    from shared.models.openvino_form import openvino_forward

    converted: Forward = openvino_forward(folder, "bf16" if backend == "openvino-bf16" else "f32", cache)
    return converted


def _require(backend: str) -> None:
    module = MODULES.get(backend, "openvino")
    if not _installed(module):
        raise BackendMissing(f"backend {backend} needs the package {module}, which is not installed on this worker")


def _onnx(folder: EncoderFolder) -> Forward:
    """The folder's own ONNX file for the token states; pooling in NumPy."""
    import onnxruntime

    if folder.onnx is None:
        raise BackendMissing(f"backend onnx needs onnx/model.onnx in the encoder's folder {folder.path.name}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder.onnx), options, providers=["CPUExecutionProvider"])
    wanted = {entry.name for entry in session.get_inputs()}

    def forward(ids: Tokens, mask: Tokens) -> Floats:
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = session.run(None, {name: given[name] for name in wanted})[0]
        return pool(states, mask, folder.pooling)

    return forward


def pool(states: Floats, mask: Tokens, pooling: str) -> Floats:
    """Unit vectors (batch, d) from token states (batch, length, d): mean under the mask, first token, or maximum."""
    weights = mask[:, :, None].astype(np.float32)
    if pooling == "cls":
        pooled = states[:, 0]
    elif pooling == "max":
        pooled = np.where(weights > 0, states, -np.inf).max(axis=1)
    else:
        pooled = (states * weights).sum(axis=1) / weights.sum(axis=1)
    return unit(pooled)


def unit(vectors: NDArray[Any]) -> Floats:
    """Rows at length 1; a row of zeros stays zero."""
    length = np.linalg.norm(vectors.astype(np.float32), axis=-1, keepdims=True)
    scaled: Floats = np.divide(vectors, length, out=np.zeros(vectors.shape, np.float32), where=length > 0)
    return scaled
