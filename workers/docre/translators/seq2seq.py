"""Any transformers sequence-to-sequence checkpoint (Marian, NLLB, M2M100, T5 …) as an engine; greedy, by length.

Cross-attention tells which source word a translated word comes from: attentions are asked for in their eager form,
since `sdpa` gives none.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from shared.jobs.errors import InvalidInput
from workers.docre.translators import EngineInfo, Marks, Segment, Translated, once
from workers.docre.translators.subwords import Subwords, align, subwords

BATCH = 32
MAX_TOKENS = 256


class Loaded(NamedTuple):
    """A checkpoint in memory."""

    model: Any
    tokenizer: Any


@lru_cache(maxsize=1)
def _load(folder: Path) -> Loaded:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True, attn_implementation="eager")
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"translator: {folder.name} is no sequence-to-sequence checkpoint: {error}") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Loaded(model.to(device).eval(), tokenizer)


class Seq2SeqTranslator:
    """A checkpoint in a folder; language codes are its tokenizer's own (`spa_Latn`, `es`)."""

    marks: Marks = "none"

    def __init__(self, folder: Path, digest: str, source: str, target: str) -> None:
        self._model, self._tokenizer = _load(folder)
        self._forced = _language_codes(self._tokenizer, source, target)
        versions = {"checkpoint": digest[:16], "torch": torch.__version__, "transformers": transformers.__version__}
        self.info = EngineInfo("transformers", versions)

    def translate(self, segments: Sequence[Segment]) -> list[Translated]:
        return once(segments, self._translate)

    def _translate(self, texts: list[str]) -> list[Translated]:
        order = sorted(range(len(texts)), key=lambda n: (len(texts[n]), texts[n]))
        answers: list[Translated] = [Translated("")] * len(texts)
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            for n, answer in zip(batch, self._batch([texts[n] for n in batch]), strict=True):
                answers[n] = answer
        return answers

    @torch.inference_mode()
    def _batch(self, texts: list[str]) -> list[Translated]:
        given = self._tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=MAX_TOKENS)
        given = given.to(self._model.device)
        made = self._model.generate(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            num_beams=1,
            do_sample=False,
            max_new_tokens=self._longest(given["input_ids"].shape[1]),
            output_attentions=True,
            return_dict_in_generate=True,
            **self._forced,
        )
        # cross_attentions: per step, per layer (batch, heads, 1, source); → (batch, steps, source)
        steps = [torch.stack(layers).mean(dim=(0, 2))[:, -1] for layers in made.cross_attentions]
        attention = torch.stack(steps, dim=1).float().cpu().numpy()
        return [self._answer(texts[n], given["input_ids"][n].tolist(), given["attention_mask"][n].sum().item(),
                             made.sequences[n, 1:].tolist(), attention[n]) for n in range(len(texts))]  # fmt: skip

    def _longest(self, source: int) -> int:
        """Subwords of an answer: one that runs on is cut, and none outgrows the checkpoint's positions."""
        positions = getattr(self._model.config, "max_position_embeddings", None) or 2 * MAX_TOKENS
        return int(max(1, min(MAX_TOKENS, 3 * source + 16, positions - 2)))

    def _answer(self, text: str, source: list[int], length: int, target: list[int], attention: Any) -> Translated:
        source_words = subwords(self._tokenizer, source[: int(length)])
        target_words: Subwords = subwords(self._tokenizer, target[: len(attention)])
        rows = np.asarray(attention)[: len(target_words.spans), : int(length)]
        alignment = align(source_words, target_words, rows, text)
        return Translated(target_words.text, raw=target_words.text, alignment=alignment)


def _language_codes(tokenizer: Any, source: str, target: str) -> dict[str, int]:
    """Tell a many-language tokenizer its languages; a bilingual one has none. Raises InvalidInput."""
    if not hasattr(tokenizer, "src_lang"):
        return {}
    code = tokenizer.convert_tokens_to_ids(target)
    if code is None or code == tokenizer.unk_token_id:
        raise InvalidInput(
            f"target_lang: {target} is no language code of this checkpoint; NLLB writes spa_Latn, M2M100 es"
        )
    tokenizer.src_lang = source
    return {"forced_bos_token_id": code}
