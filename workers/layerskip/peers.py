"""transformers' own generation from the same folder: the rivals of the benchmark."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


class Transformers:
    """A model as transformers loads it."""

    def __init__(self, folder: Path, ends: Sequence[int]) -> None:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        load: Any = AutoModelForCausalLM.from_pretrained
        self.model: Any = load(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32).eval()
        self._ends = list(ends) or None

    @torch.inference_mode()
    def generate(self, prompt: Sequence[int], new: int, exit_layer: int | None = None, drafts: int = 0) -> list[int]:
        """Greedy tokens; with an exit layer, assisted by it at a constant number of drafts, threshold 0."""
        asked: dict[str, Any] = {
            "do_sample": False,
            "max_new_tokens": new,
            "eos_token_id": self._ends,
            "pad_token_id": 0,
        }
        if exit_layer is not None:
            config = self.model.generation_config
            config.num_assistant_tokens = drafts
            config.num_assistant_tokens_schedule = "constant"
            config.assistant_confidence_threshold = 0.0
            asked["assistant_early_exit"] = exit_layer
        ids = torch.tensor([list(prompt)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = self.model.generate(ids, attention_mask=torch.ones_like(ids), **asked)
        new_ids: list[int] = out[0, len(prompt) :].tolist()
        return new_ids
