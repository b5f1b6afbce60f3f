"""A batch of prompts of unlike lengths, decoded in lockstep: plain, by an early exit, or speculating at one (E, K).

Every row has its own length: it writes its keys and values where its own text stands, and a mask hides the rest. Rows
that have ended run along unheard. What a row emits doesn't depend on its neighbours, beyond rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from shared.models.llama_decoder import LlamaDecoder
from workers.layerskip.answers import Answer, Step
from workers.layerskip.decoding import Emit
from workers.layerskip.verification import Verified, drawn, keep_greedy, keep_sampled
from workers.layerskip.warping import Sampling

MOST_DRAFTS = 64
"""Rows padded to their neighbours' drafts write so far beyond their own end."""


@dataclass
class Row:
    """One prompt of the batch: tokens not yet cached and where they stand, and this step's draft."""

    answer: Answer
    rng: torch.Generator
    emit: Emit
    current: list[int]
    start: int = 0
    wanted: int = 0  # drafts
    drafted: list[int] = field(default_factory=list)
    q: list[Tensor] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.answer.finish is not None

    @property
    def drafts_on(self) -> bool:
        return len(self.drafted) < self.wanted and not (self.drafted and self.drafted[-1] in self.answer.stopping.ends)

    def begin(self, drafts: int) -> None:
        """A step of at most so many drafts."""
        self.wanted = 0 if self.is_over else min(drafts, max(0, self.answer.left - 1))
        self.drafted, self.q = [], []

    def take(self, step: Step, new: Sequence[int]) -> None:
        """Commit a step's tokens and go on from the last; a row that has ended stays at the start, in the cache."""
        self.answer.steps.append(step)
        self.emit(self.answer.commit(new))
        self.start += len(self.current) + step.accepted
        self.current = [new[-1]]
        if self.is_over:
            self.start, self.current = 0, [0]


class BatchDecoding:
    """A model, a cache for so many rows, and a way to choose tokens."""

    def __init__(self, decoder: LlamaDecoder, sampling: Sampling, positions: int, batch: int) -> None:
        self.decoder, self.sampling = decoder, sampling
        self.layers, self.batch = decoder.config.layers, batch
        self.cache = decoder.cache(positions + MOST_DRAFTS + 2, batch)

    @torch.inference_mode()
    def plain(
        self, answers: Sequence[Answer], rngs: Sequence[torch.Generator], emits: Sequence[Emit],
        exit_layer: int | None = None,
    ) -> None:  # fmt: skip
        """A token a step for every row."""
        rows, last = _rows(answers, rngs, emits), exit_layer or self.layers
        while not all(row.is_over for row in rows):
            x = self._embedded([row.current for row in rows])
            x = self._run(rows, x, (0, last), [len(row.current) for row in rows])
            logits = self.decoder.head(_at(x, [len(row.current) - 1 for row in rows]))
            for row, own in zip(rows, logits, strict=True):
                if not row.is_over:
                    row.take(Step(last, 0, 0), [self._chosen(row, own)])

    @torch.inference_mode()
    def speculative(
        self, answers: Sequence[Answer], exit_layer: int, drafts: int, rngs: Sequence[torch.Generator],
        emits: Sequence[Emit],
    ) -> None:  # fmt: skip
        """Steps of up to K + 1 tokens for every row."""
        rows = _rows(answers, rngs, emits)
        while not all(row.is_over for row in rows):
            for row in rows:
                row.begin(drafts)
            hidden = self._draft(rows, exit_layer)
            lengths = [len(row.current) + len(row.drafted) for row in rows]
            x = self._run(rows, hidden[:, : max(lengths)].clone(), (exit_layer, self.layers), lengths)
            for number, row in enumerate(rows):
                if not row.is_over:
                    first = len(row.current) - 1
                    logits = self.decoder.head(x[number, first : first + len(row.drafted) + 1])
                    self._settle(row, exit_layer, self._verified(row, logits))

    def _draft(self, rows: Sequence[Row], exit_layer: int) -> Tensor:
        """Draft for every row; x_E of `cur` and drafts (batch, tokens, d)."""
        most, longest = max(row.wanted for row in rows), max(len(row.current) for row in rows)
        x = self._embedded([row.current for row in rows])
        x = self._run(rows, x, (0, exit_layer), [len(row.current) for row in rows])
        hidden = x.new_zeros(len(rows), longest + most, x.shape[-1])
        hidden[:, :longest] = x
        for number in range(most):
            at = [len(row.current) + len(row.drafted) - 1 for row in rows]
            going = [row.drafts_on for row in rows]
            if not any(going):
                break
            logits = self.decoder.head(_at(hidden, at))
            tokens = [[self._drafted(row, logits[n])] if going[n] else [0] for n, row in enumerate(rows)]
            after = self._run(rows, self._embedded(tokens), (0, exit_layer), [int(each) for each in going], number)
            for place, each in enumerate(going):
                if each:
                    hidden[place, at[place] + 1] = after[place, 0]
        return hidden

    def _drafted(self, row: Row, logits: Tensor) -> int:
        history = [*row.answer.history, *row.drafted] if self.sampling.needs_history else ()
        if self.sampling.is_greedy:
            token = self.sampling.best(logits, history)
        else:
            row.q.append(self.sampling.probabilities(logits, history))
            token = drawn(row.q[-1], row.rng)
        row.answer.host_syncs += 1
        row.drafted.append(token)
        return token

    def _verified(self, row: Row, logits: Tensor) -> Verified:
        """Which of a row's drafts stand; logits (drafts + 1, V)."""
        row.answer.host_syncs += 1
        history = row.answer.history if self.sampling.needs_history else []
        histories = [[*history, *row.drafted[:place]] for place in range(len(logits))]
        if self.sampling.is_greedy:
            targets = [self.sampling.best(own, past) for own, past in zip(logits, histories, strict=True)]
            return keep_greedy(row.drafted, targets)
        p = torch.stack([self.sampling.probabilities(own, past) for own, past in zip(logits, histories, strict=True)])
        return keep_sampled(row.drafted, p, torch.stack(row.q) if row.q else p[:0], row.rng)

    def _settle(self, row: Row, exit_layer: int, verified: Verified) -> None:
        """Commit what stands, and the next token unless a drafted end stood."""
        new = row.drafted[: verified.accepted]
        if not (new and new[-1] in row.answer.stopping.ends):
            new = [*new, verified.next_token]
        row.take(Step(exit_layer, len(row.drafted), verified.accepted), new)

    def _chosen(self, row: Row, logits: Tensor) -> int:
        row.answer.host_syncs += 1
        history = row.answer.history if self.sampling.needs_history else ()
        if self.sampling.is_greedy:
            return self.sampling.best(logits, history)
        return drawn(self.sampling.probabilities(logits, history), row.rng)

    def _run(
        self, rows: Sequence[Row], x: Tensor, layers: tuple[int, int], lengths: Sequence[int], after: int | None = None
    ) -> Tensor:
        """x (batch, n, d) through layers, from each row's start, or so many places after its `cur`.

        Counted are each row's own tokens, `lengths`, not its padding.
        """
        first, last = layers
        for row, length in zip(rows, lengths, strict=True):
            if not row.is_over and length:
                row.answer.ran(last - first, length)
        starts = [row.start if after is None else row.start + len(row.current) + after for row in rows]
        return self.decoder.run_batch(x, self.cache, first, last, starts)

    def _embedded(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """x_0 (batch, longest, d), filled up on the right, where later tokens will overwrite."""
        longest = max(len(own) for own in tokens)
        filled = [[*own, *[0] * (longest - len(own))] for own in tokens]
        return self.decoder.embed(torch.tensor(filled, device=self.decoder.device))


def _rows(answers: Sequence[Answer], rngs: Sequence[torch.Generator], emits: Sequence[Emit]) -> list[Row]:
    return [
        Row(answer, rng, emit, list(answer.prompt))
        for answer, rng, emit in zip(answers, rngs, emits, strict=True)
    ]  # fmt: skip


def _at(x: Tensor, places: Sequence[int]) -> Tensor:
    """x (batch, n, d) at one place of each row: (batch, d)."""
    return x[torch.arange(len(x)), torch.tensor(places)]
