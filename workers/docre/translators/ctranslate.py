"""CTranslate2: a converted checkpoint, quantised if its maker chose so, with attention for alignment.

The folder holds CTranslate2's `model.bin` beside the tokenizer's files of the checkpoint it was converted from.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.jobs.errors import InvalidInput
from workers.docre.translators import EngineInfo, Marks, Segment, Translated, once
from workers.docre.translators.subwords import align, subwords

BATCH = 32
MAX_TOKENS = 256


class Loaded(NamedTuple):
    """A converted checkpoint in memory."""

    model: Any
    tokenizer: Any


@lru_cache(maxsize=1)
def _load(folder: Path) -> Loaded:
    try:
        import ctranslate2
        from transformers import AutoTokenizer
    except ImportError as missing:
        raise InvalidInput(f"backend ctranslate2: {missing.name} is not installed on this worker") from None
    try:
        model = ctranslate2.Translator(str(folder), device="cpu", intra_threads=1, inter_threads=1)
        return Loaded(model, AutoTokenizer.from_pretrained(folder, local_files_only=True))
    except (RuntimeError, OSError, ValueError) as error:
        raise InvalidInput(f"translator: {folder.name} is no CTranslate2 model with its tokenizer: {error}") from None


class CTranslate2Translator:
    """A converted checkpoint in a folder."""

    marks: Marks = "none"

    def __init__(self, folder: Path, digest: str, source: str, target: str) -> None:
        import ctranslate2

        self._model, self._tokenizer = _load(folder)
        self._prefix = self._language_codes(source, target)
        self.info = EngineInfo("ctranslate2", {"checkpoint": digest[:16], "ctranslate2": ctranslate2.__version__})

    def translate(self, segments: Sequence[Segment]) -> list[Translated]:
        return once(segments, self._translate)

    def _translate(self, texts: list[str]) -> list[Translated]:
        tokens = [self._tokens(text) for text in texts]
        made = self._model.translate_batch(
            tokens, target_prefix=[self._prefix] * len(tokens) if self._prefix else None, max_batch_size=BATCH,
            beam_size=1, max_decoding_length=MAX_TOKENS, return_attention=True,
        )  # fmt: skip
        return [self._answer(*each) for each in zip(texts, tokens, made, strict=True)]

    def _tokens(self, text: str) -> list[str]:
        ids = self._tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        return list(self._tokenizer.convert_ids_to_tokens(ids))

    def _answer(self, text: str, source: list[str], made: Any) -> Translated:
        skipped = len(self._prefix)
        hypothesis = made.hypotheses[0][skipped:]
        source_words = subwords(self._tokenizer, self._tokenizer.convert_tokens_to_ids(source))
        target_words = subwords(self._tokenizer, self._tokenizer.convert_tokens_to_ids(hypothesis))
        rows = np.asarray(made.attention[0], dtype=np.float64)[skipped : skipped + len(hypothesis)]
        alignment = align(source_words, target_words, rows, text) if rows.ndim == 2 and len(rows) else None
        return Translated(target_words.text, raw=" ".join(hypothesis), alignment=alignment)

    def _language_codes(self, source: str, target: str) -> list[str]:
        if not hasattr(self._tokenizer, "src_lang"):
            return []
        if self._tokenizer.convert_tokens_to_ids(target) in (None, self._tokenizer.unk_token_id):
            raise InvalidInput(f"target_lang: {target} is no language code of this checkpoint")
        self._tokenizer.src_lang = source
        return [target]
