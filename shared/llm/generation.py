"""Generating a batch of replies together: one forward pass per token for all, every reply by its own seed and end.

What a row samples depends on its own logits and its own generator; which calls share the batch changes the logits by
float rounding only. So a reply is the same in any company, except where two tokens tie to within that rounding
(about 1e-6 in float32, more in bfloat16). Alone in its batch it is the same bit for bit.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from shared.llm.chat import ChatCall, Reply
from shared.llm.sampling import next_tokens


@dataclass
class Row:
    """One reply in the making."""

    call: ChatCall
    prompt: list[int]
    most_tokens: int
    decode: Callable[[list[int]], str]
    ends: frozenset[int]
    """Tokens that end a reply."""
    tokens: list[int] = field(default_factory=list)
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        self.generator.manual_seed(self.call.seed)

    def uniform(self) -> float:
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def take(self, token: int) -> Reply | None:
        """Add a token; the reply, if that was its end."""
        self.tokens.append(token)
        if token in self.ends:
            return self._reply(self.decode(self.tokens[:-1]), "stop")
        if self.call.stop:
            text = self.decode(self.tokens)
            found = [at for stop in self.call.stop if (at := text.find(stop)) >= 0]
            if found:
                return self._reply(text[: min(found)], "stop")
        if len(self.tokens) >= self.most_tokens:
            return self._reply(self.decode(self.tokens), "length")
        return None

    def _reply(self, text: str, finish_reason: str) -> Reply:
        return Reply(text, len(self.prompt), len(self.tokens), finish_reason)


@torch.inference_mode()
def generate(
    model: Any, rows: Sequence[Row], done: Callable[[Row, Reply], None], is_wanted: Callable[[Row], bool]
) -> None:
    """Generate all rows' replies, telling each to `done` when it ends. A row that is not wanted any more is dropped."""
    batch = _Batch(model, list(rows))
    while batch.rows:
        tokens = batch.draw()
        kept: list[int] = []
        for index, (row, token) in enumerate(zip(batch.rows, tokens.tolist(), strict=True)):
            reply = row.take(token)
            if reply is not None:
                done(row, reply)
            elif is_wanted(row):
                kept.append(index)
        if kept:
            batch.advance(tokens, kept)
        else:
            batch.rows = []


class _Batch:
    """The rows still going, with their attention cache. Prompts are padded on the left: (batch, longest prompt)."""

    def __init__(self, model: Any, rows: list[Row]) -> None:
        self._model, self.rows = model, rows
        self._device = model.device
        longest = max(len(row.prompt) for row in rows)
        ids = torch.tensor([[0] * (longest - len(row.prompt)) + row.prompt for row in rows], device=self._device)
        lengths = torch.tensor([len(row.prompt) for row in rows], device=self._device)
        self._mask = (torch.arange(longest, device=self._device) >= longest - lengths[:, None]).long()
        self._cache = DynamicCache(config=model.config)
        self._takes = inspect.signature(model.forward).parameters
        self._positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self._logits = self._forward(ids)

    def draw(self) -> Tensor:
        """The next token of every row (batch,)."""
        column = [(row.call.temperature, row.call.top_p, row.uniform()) for row in self.rows]
        temperature, top_p, uniform = torch.tensor(column, dtype=torch.float64, device=self._device).unbind(-1)
        return next_tokens(self._logits, temperature.float(), top_p.float(), uniform)

    def advance(self, tokens: Tensor, kept: list[int]) -> None:
        """Go on with the kept rows by their new tokens."""
        if len(kept) < len(self.rows):
            self.rows = [self.rows[index] for index in kept]
            index = torch.tensor(kept, device=self._device)
            self._cache.batch_select_indices(index)
            self._mask, self._positions, tokens = self._mask[index], self._positions[index], tokens[index]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(kept), 1)], -1)
        self._positions = self._positions[:, -1:] + 1
        self._logits = self._forward(tokens[:, None])

    def _forward(self, ids: Tensor) -> Tensor:
        """Logits of the last position (batch, vocab)."""
        known = {"position_ids": self._positions, "logits_to_keep": 1}
        extra = {name: value for name, value in known.items() if name in self._takes}
        out = self._model(
            input_ids=ids, attention_mask=self._mask, past_key_values=self._cache, use_cache=True, **extra
        )
        logits: Tensor = out.logits[:, -1]
        return logits
