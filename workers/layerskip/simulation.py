"""Every (E, K) from one plain pass per prompt (section 2.6 of the specification; ours).

The first E layers are the same weights on the same prefix in draft and whole model, so the draft at a position whose
prefix is committed is the likeliest token of g(x_E) in the whole model's own pass. One plain run that notes it for all
E therefore determines, exactly, what every (E, K) would draft and accept. Limit: what is drafted after the first
mismatch isn't known, so `drafted` is too large where such a draft happens to be an end token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workers.layerskip.answers import Answer, Step
from workers.layerskip.decoding import Decoding, Emit, silent
from workers.layerskip.verification import acceptance, drawn


class Counts(NamedTuple):
    """One step: drafts that stood, and drafts."""

    accepted: int
    drafted: int


@dataclass
class Recorded:
    """A plain run with what every exit said. Lists over positions, an end token included."""

    tokens: list[int] = field(default_factory=list)
    ended: bool = False  # the last token is an end token
    limit: int = 0  # most new tokens
    said: list[list[int]] = field(default_factory=list)  # of exits 1 … L − 1
    overlaps: list[list[float]] = field(default_factory=list)  # Σ min(p, q_E), when sampling
    margins: list[float] = field(default_factory=list)  # top-2 logit margin of the whole model

    @property
    def state(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        return vars(self)

    def matches(self, exit_layer: int) -> list[bool]:
        """Whether exit E said the whole model's token, by position."""
        said = self.said[exit_layer - 1]
        return [one == token for one, token in zip(said, self.tokens, strict=True)]


@torch.inference_mode()
def record(decoding: Decoding, answer: Answer, rng: torch.Generator, emit: Emit = silent) -> Recorded:
    """Decode plainly, noting what every exit would have said."""
    layers, sampling = decoding.layers, decoding.sampling
    noted = Recorded(limit=answer.limit, said=[[] for _ in range(layers - 1)], overlaps=[[] for _ in range(layers - 1)])
    current, start = list(answer.prompt), 0
    while answer.finish is None:
        taps: list[Tensor] = []
        x = decoding.decoder.embed(torch.tensor(current, device=decoding.decoder.device))
        decoding.decoder.run(x, decoding.cache, 0, layers, start, taps)
        start += len(current)
        logits = decoding.decoder.head(torch.stack([tap[-1] for tap in taps]))  # (L, V)
        history = answer.history
        if sampling.is_greedy:
            best = [sampling.best(row, history) for row in logits] if sampling.needs_history else (
                logits.argmax(-1).tolist()
            )  # fmt: skip
            token = best[-1]
            for own, one in zip(noted.said, best[:-1], strict=True):
                own.append(one)
        else:
            token = _sampled(decoding, logits, history, noted, rng)
        top = logits[-1].float().topk(2).values
        noted.margins.append(float(top[0] - top[1]))
        noted.tokens.append(token)
        answer.steps.append(Step(layers, 0, 0))
        emit(answer.commit([token]))
        current = [token]
    noted.ended = answer.finish == "eos"
    return noted


def _sampled(decoding: Decoding, logits: Tensor, history: Sequence[int], noted: Recorded, rng: torch.Generator) -> int:
    rows = torch.stack([decoding.sampling.probabilities(row, history) for row in logits])
    for own, said, overlap in zip(noted.overlaps, noted.said, acceptance(rows[-1], rows[:-1]).tolist(), strict=True):
        own.append(overlap)
        said.append(-1)  # what exits would draw isn't one token
    return drawn(rows[-1], rng)


def simulate(recorded: Recorded, exit_layer: int, drafts: int) -> list[Counts]:
    """(accepted, drafted) of every step that greedy speculation at (E, K) would take."""
    matches, tokens, at = recorded.matches(exit_layer), len(recorded.tokens), 0
    steps: list[Counts] = []
    while at < tokens:
        wanted = min(drafts, recorded.limit - at - 1)
        accepted = 0
        while accepted < wanted and matches[at + accepted]:
            accepted += 1
            if recorded.ended and at + accepted == tokens:  # an end token that was drafted and stands: no bonus
                return [*steps, Counts(accepted, accepted)]
        steps.append(Counts(accepted, wanted))
        at += accepted + 1
    return steps


def agrees(real: Sequence[Step], simulated: Sequence[Counts]) -> bool:
    """Whether a run took the simulated steps; after a mismatch a drafted end token may have cut its draft short."""
    return len(real) == len(simulated) and all(
        step.accepted == counts.accepted
        and (step.drafted == counts.drafted or counts.accepted < step.drafted < counts.drafted)
        for step, counts in zip(real, simulated, strict=True)
    )


def expected_acceptance(recorded: Sequence[Recorded], exit_layer: int) -> float | None:
    """Mean Σ min(p, q_E) over all positions, when sampling."""
    values = [value for each in recorded for value in each.overlaps[exit_layer - 1]]
    return sum(values) / len(values) if values else None
