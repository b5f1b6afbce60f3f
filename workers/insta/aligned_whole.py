"""Training all of an encoder that Sentence-Transformers reads and our forward pass does not."""

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from shared.models.sentence_encoder import SentenceEncoder, Tokenised
from shared.models.whole_encoder import WholeEncoder, quiet
from workers.insta.aligned import Full
from workers.insta.devices import training_device
from workers.insta.unpacking import pack_folder


class FullWhole(Full):
    """As `Full`: the module is a SentenceTransformer of its own, beside the resident one."""

    def __init__(self, encoder: WholeEncoder, texts: Sequence[str]) -> None:
        self._encoder, self._prompt = encoder, encoder.prompt
        self._tokens = encoder.tokenise(texts)
        self._device = training_device()
        self.module = copy.deepcopy(encoder.tokenizer).to(self._device)

    def packed(self) -> bytes:
        """The trained encoder, as Sentence-Transformers saves it, in a tar."""
        with tempfile.TemporaryDirectory() as folder:
            with quiet():
                self.module.save(folder, create_model_card=False)
            return pack_folder(Path(folder))

    def _embedded(self, batch: Sequence[Tokenised]) -> Tensor:
        with quiet():
            features = self.module.preprocess([text.text for text in batch], prompt=self._prompt)
            features = {name: each.to(self._device) if isinstance(each, Tensor) else each
                        for name, each in features.items()}  # fmt: skip
            return nn.functional.normalize(self.module(features)["sentence_embedding"], dim=-1)


def full_of(encoder: SentenceEncoder, texts: Sequence[str]) -> Full:
    """What trains an encoder's weights."""
    return FullWhole(encoder, texts) if isinstance(encoder, WholeEncoder) else Full(encoder, texts)
