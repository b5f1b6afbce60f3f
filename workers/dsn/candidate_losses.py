"""Losses of many candidates for every prompt: prefix reuse, batches that halve when memory runs out.

Candidates come in position order with one replacement each, so a group of neighbours also shares the beginning of the
suffix (`position groups`): worth it where a group keeps enough rows to fill the processor.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from workers.dsn.memory import halved
from workers.dsn.objective import Losses
from workers.dsn.prefix import expanded, extended
from workers.dsn.prompts import Prompt, window_logits

CPU_TOKENS = 3_000  # per batch: measured best between 2,000 and 4,000
GROUP_ROWS = 80  # below 40 to 100 rows a further group costs more than it saves
MOST_ROWS = 4_096


class CandidateLosses:
    """Evaluates candidates (B, L) for fixed prompts. `most_rows` shrinks for good when memory runs out."""

    def __init__(
        self, model: Any, prompts: Sequence[Prompt], *, reuse: bool = True, groups: int | None = None,
        most_rows: int | None = None,
    ) -> None:  # fmt: skip
        self._model, self._prompts, self._reuse, self._groups = model, list(prompts), reuse, groups
        self.most_rows = most_rows or MOST_ROWS

    @torch.no_grad()
    def of(self, candidates: Tensor, current: Sequence[int] | None = None, *, refusal: bool = True) -> Losses:
        """Losses (B,) each, summed over prompts. With the suffix they were made from, groups share its beginning."""
        totals = Losses(*(torch.zeros(len(candidates), dtype=torch.float64) for _ in range(2)))
        starts = self._starts(candidates, current)
        for prompt in self._prompts:
            found = self._of_prompt(prompt, candidates, starts, current, refusal)
            for total, more in zip(totals, found, strict=True):
                total += more
        return totals

    def _starts(self, candidates: Tensor, current: Sequence[int] | None) -> list[tuple[int, int, int]]:
        """(first row, end row, suffix tokens shared) of every group."""
        rows, length = candidates.shape
        if current is None or not self._reuse:
            return [(0, rows, 0)]
        groups = self._groups or max(1, min(rows // GROUP_ROWS, length))
        differs = candidates.cpu() != torch.tensor(current)
        first = differs.int().argmax(-1).masked_fill(~differs.any(-1), length - 1)
        edges = torch.tensor([length * g // groups for g in range(1, groups)])
        bounds = [0, *torch.searchsorted(first, edges).tolist(), rows]  # candidates come in position order
        return [(a, b, int(first[a:b].min())) for a, b in itertools.pairwise(bounds) if b > a]

    def _of_prompt(
        self, prompt: Prompt, candidates: Tensor, starts: list[tuple[int, int, int]], current: Sequence[int] | None,
        refusal: bool,
    ) -> Losses:  # fmt: skip
        cache, shared, found = (prompt.cache if self._reuse else None), 0, []
        for first, last, common in starts:
            if current is not None and common > shared:
                more = torch.tensor([current[shared:common]], device=self._model.device)
                cache, shared = extended(self._model, cache, more), common
            found.append(self._rows(prompt, cache, candidates[first:last, shared:], refusal))
        return Losses(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _rows(self, prompt: Prompt, cache: Any, ends: Tensor, refusal: bool) -> Losses:
        """Losses of rows that share a cache; `ends` (rows, l) is what of the suffix isn't in it."""

        def compute(rows: Tensor) -> Losses:
            ids = torch.cat([rows.to(self._model.device), prompt.end.expand(len(rows), -1)], 1)
            if cache is None:
                ids = torch.cat([prompt.before.expand(len(rows), -1), ids], 1)
                logits = window_logits(self._model, prompt.rows, input_ids=ids, use_cache=False)
            else:
                held = expanded(cache, len(rows))
                logits = window_logits(self._model, prompt.rows, input_ids=ids, past_key_values=held, use_cache=True)
            losses = prompt.losses(logits, with_refusal=refusal)
            return Losses(losses.target.double().cpu(), losses.refusal.double().cpu())

        tokens = ends.shape[1] + len(prompt.end) + (0 if self._reuse else prompt.before.shape[1])
        return self._in_batches(compute, ends, tokens)

    def _in_batches(self, compute: Callable[[Tensor], Losses], rows: Tensor, tokens: int) -> Losses:
        found: list[Losses] = []
        done = 0
        while done < len(rows):
            size = self._size(tokens, len(rows) - done)
            try:
                found.append(compute(rows[done : done + size]))
                done += size
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                self.most_rows = halved(size, error)
        return Losses(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _size(self, tokens: int, left: int) -> int:
        """Rows of the next batch, even shares of what is left."""
        most = min(self.most_rows, max(1, CPU_TOKENS // tokens)) if self._model.device.type == "cpu" else self.most_rows
        batches = -(-left // most)
        return -(-left // batches)
