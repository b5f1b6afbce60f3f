"""The last models stay warm in their process: the next job that names one starts at once."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

Model = TypeVar("Model")


class ModelKey(NamedTuple):
    """What makes two loaded models the same."""

    digest: str
    dtype: str
    device: str


class ModelCache(Generic[Model]):
    """Loaded models, the least recently used leaving first when they are too many bytes together.

    A model that left is freed when the last job that uses it ends.
    """

    def __init__(self, bytes_of: Callable[[Model], int]) -> None:
        self._bytes_of = bytes_of
        self._models: OrderedDict[ModelKey, Model] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: ModelKey, load: Callable[[], Model], most_bytes: int) -> Model:
        """The model, loaded if need be. It may be larger than `most_bytes` by itself: then it stays alone."""
        with self._lock:
            if key not in self._models:
                self._models[key] = load()
            self._models.move_to_end(key)
            while len(self._models) > 1 and self.bytes > most_bytes:
                self._models.popitem(last=False)
            return self._models[key]

    @property
    def bytes(self) -> int:
        return sum(self._bytes_of(model) for model in self._models.values())

    @property
    def keys(self) -> list[ModelKey]:
        """The least recently used first."""
        return list(self._models)
