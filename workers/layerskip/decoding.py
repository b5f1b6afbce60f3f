"""One prompt at a time: plain, by an early exit, or drafting with E layers and verifying with the rest.

State between steps: tokens so far of length n, keys and values of all layers for the first n − 1 of them, `cur` = the
tokens not yet cached. Stale rows of rejected drafts lie beyond the length that the next step starts at: it overwrites
them. Layers run in place on rows of the exit cache: no state of the model is allocated per token. `Decoding` is the
entry point.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.models.llama_decoder import Cache, LlamaDecoder
from workers.layerskip.answers import Answer, Step
from workers.layerskip.policies import Plan, Policy
from workers.layerskip.verification import Verified, drawn, keep_greedy, keep_sampled
from workers.layerskip.warping import Sampling

Emit = Callable[[Sequence[int]], None]


def silent(tokens: Sequence[int]) -> None:
    """Says nothing."""


@dataclass
class Draft:
    """Tokens drafted in one step, with their distributions when sampling."""

    tokens: list[int]
    q: list[Tensor]


@dataclass
class Turn:
    """One step of an answer: tokens not yet cached, where they stand, what is planned."""

    answer: Answer
    current: list[int]
    start: int
    plan: Plan
    policy: Policy
    rng: torch.Generator
    taps: list[Tensor] | None = None  # copies of every layer's output, where the plan wants a look


class Decoding:
    """A model, a cache that is allocated once, and a way to choose tokens."""

    def __init__(self, decoder: LlamaDecoder, sampling: Sampling, positions: int) -> None:
        self.decoder, self.sampling = decoder, sampling
        self.layers = decoder.config.layers
        self.cache: Cache = decoder.cache(positions)
        self._exit_cache = torch.empty(
            positions, decoder.config.hidden_size, dtype=decoder.dtype, device=decoder.device
        )
        self._on_device = decoder.device.type == "cuda" and sampling.is_greedy and not sampling.needs_history
        """Whether drafted tokens can stay on the device until the step's one look at them."""

    # Plain and early exit ---------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def plain(self, answer: Answer, rng: torch.Generator, emit: Emit = silent, exit_layer: int | None = None) -> Answer:
        """A token a step, by all layers or by the first `exit_layer`."""
        last, current, start = exit_layer or self.layers, list(answer.prompt), 0
        while answer.finish is None:
            rows = self._exit_cache[: len(current)]
            self._embed(current, rows)
            self._run(answer, rows, 0, last, start)
            start += len(current)
            token = self._chosen(answer, self.decoder.head(rows[-1:])[0], rng)
            answer.steps.append(Step(last, 0, 0))
            emit(answer.commit([token]))
            current = [token]
        return answer

    # Self-speculation -------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def speculative(self, answer: Answer, policy: Policy, rng: torch.Generator, emit: Emit = silent) -> Answer:
        """Steps of up to K + 1 tokens."""
        current, start = list(answer.prompt), 0
        policy.begin()
        while answer.finish is None:
            plan = policy.plan()
            plan = plan._replace(drafts=min(plan.drafts, answer.left - 1))
            turn = Turn(answer, current, start, plan, policy, rng, [] if plan.look else None)
            verified, draft, matches = self._step(turn)
            step = Step(plan.exit_layer, len(draft.tokens), verified.accepted)
            answer.steps.append(step)
            policy.learn(step, matches)
            new = draft.tokens[: verified.accepted]
            if not (new and new[-1] in answer.stopping.ends):  # an accepted end token ends the draft: no bonus
                new = [*new, verified.next_token]
            start += len(current) + verified.accepted
            current = [verified.next_token]
            emit(answer.commit(new))
        return answer

    def _step(self, turn: Turn) -> tuple[Verified, Draft, list[list[bool]] | None]:
        """Draft, then verify in one pass of the late layers over all rows whose early layers are done."""
        draft, current = self._draft(turn), len(turn.current)
        rows = current + len(draft.tokens)
        x = self._exit_cache[:rows]
        self._run(turn.answer, x, turn.plan.exit_layer, self.layers, turn.start, turn.taps)
        verified, targets = self._verified(turn, draft, self.decoder.head(x[current - 1 :]))  # last of `cur`, drafts
        if turn.taps is None:
            return verified, draft, None
        return verified, draft, self._matches(turn, turn.taps, targets[: verified.accepted + 1])

    def _draft(self, turn: Turn) -> Draft:
        """Tokens of the first E layers; the exit cache then holds x_E of `cur` and every draft."""
        draft, on_device = Draft([], []), list[Tensor]()
        filled = len(turn.current)
        self._embed(turn.current, self._exit_cache[:filled])
        self._early(turn, 0, filled)
        for _ in range(turn.plan.drafts):
            row = self._exit_cache[filled : filled + 1]
            if self._on_device and not turn.policy.confidence.cuts:
                on_device.append(self.decoder.head(self._exit_cache[filled - 1 : filled]).argmax(-1))
                self.decoder.embed(on_device[-1], row)
                more = True
            else:
                more = self.guess(turn, draft, filled)
            self._early(turn, filled, filled + 1)
            filled += 1
            if not more:
                break
        if on_device:
            turn.answer.host_syncs += 1
            draft.tokens = _up_to_an_end(torch.cat(on_device).tolist(), turn.answer.stopping.ends)
        return draft

    def _early(self, turn: Turn, first: int, last: int) -> None:
        """Rows of the exit cache through the first E layers, in place."""
        rows = self._exit_cache[first:last]
        self._run(turn.answer, rows, 0, turn.plan.exit_layer, turn.start + first, turn.taps)

    def guess(self, turn: Turn, draft: Draft, filled: int) -> bool:
        """Draft a token by the last filled row of the exit cache, put x_0 of it into the next; whether to go on."""
        logits, answer = self.decoder.head(self._exit_cache[filled - 1 : filled])[0], turn.answer
        history = [*answer.history, *draft.tokens] if self.sampling.needs_history else ()
        answer.host_syncs += 1
        if self.sampling.is_greedy:
            token = self.sampling.best(logits, history)
        else:
            draft.q.append(self.sampling.probabilities(logits, history))
            token = drawn(draft.q[-1], turn.rng)
        draft.tokens.append(token)
        self._exit_cache[filled] = self.decoder.embedded(token)
        return turn.policy.confidence.sure(logits, token) and token not in answer.stopping.ends

    def _verified(self, turn: Turn, draft: Draft, logits: Tensor) -> tuple[Verified, list[int]]:
        """Which drafts stand; and the whole model's greedy tokens."""
        turn.answer.host_syncs += 1
        logits = logits[: len(draft.tokens) + 1]
        if self.sampling.is_greedy and not self.sampling.needs_history:
            targets: list[int] = logits.argmax(-1).tolist()
            return keep_greedy(draft.tokens, targets), targets
        histories = [[*turn.answer.history, *draft.tokens[:row]] for row in range(len(logits))]
        if self.sampling.is_greedy:
            targets = [self.sampling.best(row, history) for row, history in zip(logits, histories, strict=True)]
            return keep_greedy(draft.tokens, targets), targets
        p = torch.stack([self.sampling.probabilities(row, past) for row, past in zip(logits, histories, strict=True)])
        q = torch.stack(draft.q) if draft.q else p[:0]
        return keep_sampled(draft.tokens, p, q, turn.rng), logits.argmax(-1).tolist()

    def _matches(self, turn: Turn, taps: list[Tensor], targets: Sequence[int]) -> list[list[bool]]:
        """For exits 1 … L − 1: whether each committed row says what the whole model says."""
        turn.answer.host_syncs += 1
        exit_layer, first = turn.plan.exit_layer, len(turn.current) - 1
        early = taps[: len(taps) - (self.layers - exit_layer)]
        late = taps[len(early) :]
        by_exit = [torch.cat(early[layer::exit_layer]) for layer in range(exit_layer)] + late[:-1]
        rows = torch.stack([x[first : first + len(targets)] for x in by_exit])
        said = self.decoder.head(rows.flatten(0, 1)).argmax(-1).view(rows.shape[:2]).tolist()
        return [[one == target for one, target in zip(own, targets, strict=True)] for own in said]

    # Shared -----------------------------------------------------------------------------------------------------------

    def _embed(self, ids: Sequence[int], rows: Tensor) -> None:
        """x_0 into rows."""
        if len(ids) == 1:
            rows[0] = self.decoder.embedded(ids[0])
        else:
            self.decoder.embed(torch.tensor(ids, device=self.decoder.device), rows)

    def _run(
        self, answer: Answer, rows: Tensor, first: int, last: int, start: int, taps: list[Tensor] | None = None
    ) -> None:
        """Layers first … last − 1, in place."""
        answer.ran(last - first, len(rows))
        self.decoder.run(rows, self.cache, first, last, start, taps)

    def _chosen(self, answer: Answer, logits: Tensor, rng: torch.Generator) -> int:
        answer.host_syncs += 1
        history = answer.history if self.sampling.needs_history else ()
        if self.sampling.is_greedy:
            return self.sampling.best(logits, history)
        return drawn(self.sampling.probabilities(logits, history), rng)


def _up_to_an_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    """A draft ends with its first end token."""
    for number, token in enumerate(tokens, start=1):
        if token in ends:
            return tokens[:number]
    return tokens
