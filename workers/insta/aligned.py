"""What alignment trains: a matrix on cached vectors (`Head`), or the encoder's own weights (`Full`)."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.models.pooled import load_pooled
from shared.models.sentence_encoder import SentenceEncoder, Tokenised
from workers.insta.devices import training_device
from workers.insta.losses import distance_to_identity
from workers.insta.unpacking import add_file

BATCH = 16


class Aligned(Protocol):
    """Something that embeds rows of the library and can be trained."""

    @property
    def module(self) -> nn.Module:
        """What an optimiser changes."""

    def embed(self, rows: NDArray[np.int64]) -> Tensor:
        """(batch, d) unit vectors, with gradients."""

    def penalty(self) -> Tensor | float:
        """What is added to the loss."""

    def vectors(self) -> NDArray[np.float32]:
        """(N, d) all rows as they are now."""


class Head:
    """x → xW/‖xW‖ with W = I at first."""

    def __init__(self, vectors: NDArray[np.float32], weight: float) -> None:
        self._x, self._weight = torch.from_numpy(np.array(vectors, np.float32)), weight
        self.module = nn.Linear(vectors.shape[1], vectors.shape[1], bias=False)
        with torch.no_grad():
            self.module.weight.copy_(torch.eye(vectors.shape[1]))

    @property
    def matrix(self) -> NDArray[np.float32]:
        """W (d, d): rows are multiplied from the left. nn.Linear keeps its transpose."""
        return np.ascontiguousarray(self.module.weight.detach().numpy().T)

    def embed(self, rows: NDArray[np.int64]) -> Tensor:
        return nn.functional.normalize(self.module(self._x[rows]), dim=1)

    def penalty(self) -> Tensor | float:
        return self._weight * distance_to_identity(self.module.weight)

    def vectors(self) -> NDArray[np.float32]:
        with torch.no_grad():
            moved: NDArray[np.float32] = nn.functional.normalize(self.module(self._x), dim=1).numpy()
        return moved


class Full:
    """Every weight of the encoder; dropout is on while training."""

    def __init__(self, encoder: SentenceEncoder, texts: Sequence[str]) -> None:
        self._encoder = encoder
        self._tokens = encoder.tokenise(texts)
        self._device = training_device()
        self.module: Any = load_pooled(encoder.folder).to(self._device)

    def embed(self, rows: NDArray[np.int64]) -> Tensor:
        self.module.train()
        return self._embedded([self._tokens[row] for row in rows])

    def penalty(self) -> Tensor | float:
        return 0.0

    def vectors(self) -> NDArray[np.float32]:
        return self._encoded(self._tokens)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, d) of other texts than the library's."""
        return self._encoded(self._encoder.tokenise(texts))

    def _encoded(self, tokens: Sequence[Tokenised]) -> NDArray[np.float32]:
        self.module.eval()
        found = np.empty((len(tokens), self._encoder.dimensions), np.float32)
        order = sorted(range(len(tokens)), key=lambda row: len(tokens[row].ids))
        with torch.no_grad():
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                found[rows] = self._embedded([tokens[row] for row in rows]).cpu().numpy()
        return found

    def _embedded(self, batch: Sequence[Tokenised]) -> Tensor:
        """(batch, d) at length 1."""
        ids, mask = self._encoder.pad([text.ids for text in batch])
        embedded: Tensor = self.module(torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device))
        return embedded

    def packed(self) -> bytes:
        """The trained encoder as a Sentence-Transformers folder in a tar."""
        out = io.BytesIO()
        source = self._encoder.folder.path
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for file in sorted(source.rglob("*")):
                if file.is_file() and file.suffix not in (".safetensors", ".bin", ".onnx"):
                    add_file(tar, file.relative_to(source).as_posix(), file.read_bytes())
            for name, data in self._weights().items():
                add_file(tar, name, data)
        return out.getvalue()

    def _weights(self) -> dict[str, bytes]:
        from safetensors.torch import save

        module = self.module
        files = {"model.safetensors": save(_plain(module.transformer.state_dict()), {"format": "pt"})}
        for folder, layer in zip(self._encoder.folder.dense, module.dense, strict=True):
            state = {f"linear.{name.removeprefix('0.')}": weight for name, weight in layer.state_dict().items()}
            files[f"{Path(folder).name}/model.safetensors"] = save(_plain(state))
        return files


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().contiguous() for name, weight in state.items()}
