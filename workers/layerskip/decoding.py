"""One prompt at a time: plain, by an early exit, or drafting with E layers and verifying with the rest.

State between steps: tokens so far of length n, keys and values of all layers for the first n − 1 of them, `cur` = the
tokens not yet cached. Stale rows of rejected drafts lie beyond the length that the next step starts at: it overwrites
them. `Decoding` is the entry point.
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
            x = self._run(answer, self._embedded(current), 0, last, start)
            start += len(current)
            token = self._chosen(answer, self.decoder.head(x[-1:])[0], answer.history, rng)
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
            verified, draft, matches = self._step(answer, current, start, plan, policy.confidence, rng)
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

    def _step(
        self, answer: Answer, current: list[int], start: int, plan: Plan, confidence: float, rng: torch.Generator
    ) -> tuple[Verified, Draft, list[list[bool]] | None]:
        """Draft, then verify in one pass of the late layers over all rows whose early layers are done."""
        taps: list[Tensor] | None = [] if plan.look else None
        draft = self._draft(answer, current, start, plan, confidence, rng, taps)
        rows = len(current) + len(draft.tokens)
        x = self._run(answer, self._exit_cache[:rows], plan.exit_layer, self.layers, start, taps)
        wanted = x[len(current) - 1 :]  # the last token of `cur` and each draft
        logits = self.decoder.head(wanted)
        verified, targets = self._verified(answer, draft, logits, rng)
        if taps is None:
            return verified, draft, None
        return verified, draft, self._matches(answer, taps, plan, len(current), targets[: verified.accepted + 1])

    def _draft(
        self, answer: Answer, current: list[int], start: int, plan: Plan, confidence: float, rng: torch.Generator,
        taps: list[Tensor] | None,
    ) -> Draft:  # fmt: skip
        """Tokens of the first E layers; the exit cache then holds x_E of `cur` and every draft."""
        draft, on_device = Draft([], []), list[Tensor]()
        x = self._early(answer, self._embedded(current), 0, start, plan, taps)
        filled = len(current)
        for _ in range(plan.drafts):
            logits = self.decoder.head(x[-1:])
            if self._on_device and not confidence:
                chosen = logits.argmax(-1)
                on_device.append(chosen)
            else:
                token, sure = self._drafted(answer, draft, logits[0], rng, confidence)
                chosen = torch.tensor([token], device=self.decoder.device)
            x = self._early(answer, self.decoder.embed(chosen), filled, start, plan, taps)
            filled += 1
            if not on_device and (draft.tokens[-1] in answer.stopping.ends or not sure):
                break
        if on_device:
            answer.host_syncs += 1
            draft.tokens = _up_to_an_end(torch.cat(on_device).tolist(), answer.stopping.ends)
        return draft

    def _early(
        self, answer: Answer, x: Tensor, filled: int, start: int, plan: Plan, taps: list[Tensor] | None
    ) -> Tensor:
        x = self._run(answer, x, 0, plan.exit_layer, start + filled, taps)
        self._exit_cache[filled : filled + len(x)] = x
        return x

    def _drafted(
        self, answer: Answer, draft: Draft, logits: Tensor, rng: torch.Generator, confidence: float
    ) -> tuple[int, bool]:
        """The next draft, and whether it is likely enough to go on."""
        history = [*answer.history, *draft.tokens] if self.sampling.needs_history else ()
        answer.host_syncs += 1
        if self.sampling.is_greedy:
            token = self.sampling.best(logits, history)
        else:
            draft.q.append(self.sampling.probabilities(logits, history))
            token = drawn(draft.q[-1], rng)
        draft.tokens.append(token)
        return token, not confidence or float(torch.softmax(logits.float(), -1)[token]) >= confidence

    def _verified(
        self, answer: Answer, draft: Draft, logits: Tensor, rng: torch.Generator
    ) -> tuple[Verified, list[int]]:
        """Which drafts stand; and the whole model's greedy tokens."""
        answer.host_syncs += 1
        logits = logits[: len(draft.tokens) + 1]
        if self.sampling.is_greedy and not self.sampling.needs_history:
            targets: list[int] = logits.argmax(-1).tolist()
            return keep_greedy(draft.tokens, targets), targets
        histories = [[*answer.history, *draft.tokens[:row]] for row in range(len(logits))]
        if self.sampling.is_greedy:
            targets = [self.sampling.best(row, history) for row, history in zip(logits, histories, strict=True)]
            return keep_greedy(draft.tokens, targets), targets
        p = torch.stack([self.sampling.probabilities(row, past) for row, past in zip(logits, histories, strict=True)])
        q = torch.stack(draft.q) if draft.q else p[:0]
        return keep_sampled(draft.tokens, p, q, rng), logits.argmax(-1).tolist()

    # Shared -----------------------------------------------------------------------------------------------------------

    def _embedded(self, ids: Sequence[int]) -> Tensor:
        return self.decoder.embed(torch.tensor(ids, device=self.decoder.device))

    def _run(
        self, answer: Answer, x: Tensor, first: int, last: int, start: int, taps: list[Tensor] | None = None
    ) -> Tensor:
        answer.ran(last - first, len(x))
        return self.decoder.run(x, self.cache, first, last, start, taps)

    def _chosen(self, answer: Answer, logits: Tensor, history: Sequence[int], rng: torch.Generator) -> int:
        answer.host_syncs += 1
        if self.sampling.is_greedy:
            return self.sampling.best(logits, history)
        return drawn(self.sampling.probabilities(logits, history), rng)

    def _matches(
        self, answer: Answer, taps: list[Tensor], plan: Plan, current: int, targets: Sequence[int]
    ) -> list[list[bool]]:
        """For exits 1 … L − 1: whether each committed row says what the whole model says."""
        answer.host_syncs += 1
        early = taps[: len(taps) - (self.layers - plan.exit_layer)]
        late = taps[len(early) :]
        by_exit = [torch.cat(early[layer :: plan.exit_layer]) for layer in range(plan.exit_layer)] + late[:-1]
        rows = torch.stack([x[current - 1 : current - 1 + len(targets)] for x in by_exit])
        said = self.decoder.head(rows.flatten(0, 1)).argmax(-1).view(rows.shape[:2]).tolist()
        return [[one == target for one, target in zip(own, targets, strict=True)] for own in said]


def _up_to_an_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    """A draft ends with its first end token."""
    for number, token in enumerate(tokens, start=1):
        if token in ends:
            return tokens[:number]
    return tokens
