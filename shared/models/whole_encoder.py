"""Any Sentence-Transformers folder, encoded with by Sentence-Transformers itself.

Other poolings, other modules (static and averaged word vectors, layers of them, recurrent ones …), prompts: whatever
`SentenceTransformer.encode` gives, at length 1. In float32 on the CPU, one batch at a time.
"""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shared.models.folder import EncoderFolder
from shared.models.sentence_encoder import Floats, SentenceEncoder, Tokenised, unit


@dataclass
class WholeEncoder(SentenceEncoder):
    """A `SentenceEncoder` whose `tokenizer` is the loaded SentenceTransformer; there is no forward pass of ours."""

    own_limit: float = math.inf  # tokens that the model cuts at, whatever is asked

    @property
    def prompt(self) -> str:
        """What the model puts before every text."""
        return self.tokenizer.prompts.get(self.tokenizer.default_prompt_name) or ""

    def tokenise(self, texts: Sequence[str]) -> list[Tokenised]:
        """Token ids of each text behind the model's default prompt, and whether the model will cut them."""
        rows = [_ids(self.tokenizer.tokenizer, self.prompt + text) for text in texts]
        return [Tokenised(ids, len(ids) > self.own_limit, text) for ids, text in zip(rows, texts, strict=True)]

    def embed(self, batch: Sequence[Tokenised]) -> Floats:
        """(batch, d)."""
        with quiet():
            vectors = self.tokenizer.encode(
                [text.text for text in batch], batch_size=len(batch), show_progress_bar=False, convert_to_numpy=True
            )
        return unit(np.asarray(vectors, np.float32))


def load_whole(folder: EncoderFolder, max_tokens: int | None) -> WholeEncoder:
    """Raises ValueError for a folder that Sentence-Transformers can't read either."""
    with quiet():
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            model = SentenceTransformer(str(folder.path), device="cpu", local_files_only=True)
            limit = folder.cut_at(max_tokens)
            own = _limited(model, limit)
            dimensions = model.encode(["a"], show_progress_bar=False, convert_to_numpy=True).shape[1]
        except Exception as error:  # its modules raise what they please
            why = f"{folder.unread}; " if folder.unread else ""
            raise ValueError(f"{why}Sentence-Transformers does not read it either: {error}") from None
    described = replace(folder, dimensions=int(dimensions))
    return WholeEncoder(described, "sentence-transformers", limit, model, _no_forward, own)


def _no_forward(*_: Any) -> Floats:
    raise NotImplementedError("Sentence-Transformers encodes texts, not token ids")


def _limited(model: Any, wanted: int) -> float:
    """The model made to cut at no more than `wanted` tokens; what it cuts at then."""
    own = model.max_seq_length
    if own is None or not math.isfinite(own):  # averaged and static vectors read a text of any length
        return math.inf
    model.max_seq_length = min(wanted, own)
    return float(min(wanted, own))


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Uncut token ids by a model's own tokenizer; of a kind that tells no ids, one for each word."""
    if hasattr(tokenizer, "encode_batch"):
        return list(tokenizer.encode(text, add_special_tokens=False).ids)
    if callable(tokenizer):
        return list(tokenizer(text, truncation=False, verbose=False)["input_ids"])
    return list(range(len(text.split())))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the notices of libraries that are loaded along."""
    logger = logging.getLogger("sentence_transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
