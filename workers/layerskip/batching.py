"""A batch of prompts of unlike lengths, decoded in lockstep: plain, by an early exit, or speculating at one (E, K).

Every row has its own length: it writes its keys and values where its own text stands, and a mask hides the rest. Rows
that have ended run along unheard. What a row emits doesn't depend on its neighbours, beyond rounding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.models.llama_decoder import LlamaDecoder
from workers.layerskip.answers import Answer, Step
from workers.layerskip.decoding import Emit
from workers.layerskip.verification import drawn, keep_greedy, keep_sampled
from workers.layerskip.warping import Sampling

MOST_DRAFTS = 64
"""Rows padded to their neighbours' drafts write so far beyond their own end."""


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
        currents, starts = [list(answer.prompt) for answer in answers], [0] * len(answers)
        last = exit_layer or self.layers
        while any(answer.finish is None for answer in answers):
            x = self._run(answers, currents, 0, last, starts, self.decoder.embed(self._padded(currents)))
            logits = self.decoder.head(_at(x, [len(current) - 1 for current in currents]))
            tokens = [self._chosen(a, logits[row], a.history, rngs[row]) for row, a in enumerate(answers)]
            starts = [start + len(current) for start, current in zip(starts, currents, strict=True)]
            currents = [[token] for token in tokens]
            for row, answer in enumerate(answers):
                if answer.finish is None:
                    answer.steps.append(Step(last, 0, 0))
                    emits[row](answer.commit([tokens[row]]))
            starts = self._parked(answers, starts)

    @torch.inference_mode()
    def speculative(
        self, answers: Sequence[Answer], exit_layer: int, drafts: int, rngs: Sequence[torch.Generator],
        emits: Sequence[Emit],
    ) -> None:  # fmt: skip
        """Steps of up to K + 1 tokens for every row."""
        currents, starts = [list(answer.prompt) for answer in answers], [0] * len(answers)
        while any(answer.finish is None for answer in answers):
            wanted = [min(drafts, max(0, a.left - 1)) if a.finish is None else 0 for a in answers]
            drafted, q, hidden = self._draft(answers, currents, starts, exit_layer, wanted, rngs)
            lengths = [len(current) + len(own) for current, own in zip(currents, drafted, strict=True)]
            rows = [[0] * length for length in lengths]
            x = self._run(answers, rows, exit_layer, self.layers, starts, hidden[:, : max(lengths)].clone())
            for row, answer in enumerate(answers):
                first = len(currents[row]) - 1
                logits = self.decoder.head(x[row, first : first + len(drafted[row]) + 1])
                starts[row], currents[row] = self._settle(
                    answer, drafted[row], q[row], logits, rngs[row], emits[row],
                    (exit_layer, starts[row] + len(currents[row])),
                )  # fmt: skip
            starts = self._parked(answers, starts)

    def _parked(self, answers: Sequence[Answer], starts: list[int]) -> list[int]:
        """Rows that have ended stay at the start, where they can't run out of the cache."""
        return [start if answer.finish is None else 0 for answer, start in zip(answers, starts, strict=True)]

    def _draft(
        self, answers: Sequence[Answer], currents: list[list[int]], starts: list[int], exit_layer: int,
        wanted: list[int], rngs: Sequence[torch.Generator],
    ) -> tuple[list[list[int]], list[list[Tensor]], Tensor]:  # fmt: skip
        """Tokens and distributions of every row, and x_E of `cur` and drafts (batch, rows, d)."""
        most, longest = max(wanted), max(len(current) for current in currents)
        x = self._run(answers, currents, 0, exit_layer, starts, self.decoder.embed(self._padded(currents)))
        hidden = x.new_zeros(len(answers), longest + most, x.shape[-1])
        hidden[:, :longest] = x
        drafted: list[list[int]] = [[] for _ in answers]
        q: list[list[Tensor]] = [[] for _ in answers]
        at = [len(current) - 1 for current in currents]
        for number in range(most):
            logits = self.decoder.head(_at(hidden, at))
            tokens = []
            for row, answer in enumerate(answers):
                token = (
                    self._drafted(answer, drafted[row], q[row], logits[row], rngs[row])
                    if (self._goes_on(answer, drafted[row], wanted[row]))
                    else 0
                )
                tokens.append(token)
            going = [[token] if len(own) == number + 1 else [] for token, own in zip(tokens, drafted, strict=True)]
            if not any(going):
                break
            places = [start + len(current) + number for start, current in zip(starts, currents, strict=True)]
            after = self._run(
                answers, going, 0, exit_layer, places, self.decoder.embed(self._padded([[t] for t in tokens]))
            )
            for row, own in enumerate(going):
                if own:
                    at[row] += 1
                    hidden[row, at[row]] = after[row, 0]
        return drafted, q, hidden

    def _goes_on(self, answer: Answer, drafted: list[int], wanted: int) -> bool:
        return len(drafted) < wanted and not (drafted and drafted[-1] in answer.stopping.ends)

    def _drafted(
        self, answer: Answer, drafted: list[int], q: list[Tensor], logits: Tensor, rng: torch.Generator
    ) -> int:
        history = [*answer.history, *drafted]
        if self.sampling.is_greedy:
            token = self.sampling.best(logits, history)
        else:
            q.append(self.sampling.probabilities(logits, history))
            token = drawn(q[-1], rng)
        answer.host_syncs += 1
        drafted.append(token)
        return token

    def _settle(
        self, answer: Answer, drafted: list[int], q: list[Tensor], logits: Tensor, rng: torch.Generator, emit: Emit,
        place: tuple[int, int],
    ) -> tuple[int, list[int]]:  # fmt: skip
        """Commit what stands; where the row goes on, and from which token."""
        exit_layer, after = place
        if answer.finish is not None:
            return 0, [0]
        answer.host_syncs += 1
        histories = [[*answer.history, *drafted[:row]] for row in range(len(logits))]
        if self.sampling.is_greedy:
            targets = [self.sampling.best(row, past) for row, past in zip(logits, histories, strict=True)]
            verified = keep_greedy(drafted, targets)
        else:
            p = torch.stack(
                [self.sampling.probabilities(row, past) for row, past in zip(logits, histories, strict=True)]
            )
            verified = keep_sampled(drafted, p, torch.stack(q) if q else p[:0], rng)
        answer.steps.append(Step(exit_layer, len(drafted), verified.accepted))
        new = drafted[: verified.accepted]
        if not (new and new[-1] in answer.stopping.ends):
            new = [*new, verified.next_token]
        emit(answer.commit(new))
        return after + verified.accepted, [verified.next_token]

    def _chosen(self, answer: Answer, logits: Tensor, history: Sequence[int], rng: torch.Generator) -> int:
        if answer.finish is not None:
            return 0
        answer.host_syncs += 1
        if self.sampling.is_greedy:
            return self.sampling.best(logits, history)
        return drawn(self.sampling.probabilities(logits, history), rng)

    def _run(
        self, answers: Sequence[Answer], rows: Sequence[Sequence[int]], first: int, last: int, starts: Sequence[int],
        x: Tensor,
    ) -> Tensor:  # fmt: skip
        """Count each row's own tokens, not its padding."""
        for answer, own in zip(answers, rows, strict=True):
            if answer.finish is None and len(own):
                answer.ran(last - first, len(own))
        return self.decoder.run_batch(x, self.cache, first, last, starts)

    def _padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """(batch, longest) ids, filled up on the right, where later tokens will overwrite."""
        longest = max(len(row) for row in rows)
        filled = [[*row, *[0] * (longest - len(row))] for row in rows]
        return torch.tensor(filled, device=self.decoder.device)


def _at(x: Tensor, places: Sequence[int]) -> Tensor:
    """x (batch, n, d) at one place of each row: (batch, d)."""
    return x[torch.arange(len(x)), torch.tensor(places)]
