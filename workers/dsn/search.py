"""The coordinate search: gradient, draw, filter, evaluate, move. One engine; GCG and DSN differ by their Objective.

A step always moves to the best candidate, even where it is worse than the current suffix (no annealing, as in the
official code); the best suffix so far is kept beside it.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from shared.jobs.errors import InvalidInput
from workers.dsn.candidate_losses import CandidateLosses
from workers.dsn.candidates import draw, normalised, top_tokens
from workers.dsn.gradient import CandidateGradient
from workers.dsn.prompts import Objective, Prompt
from workers.dsn.reachability import Reachability

Suffix = tuple[int, ...]
CLOSE = {torch.float32: 1e-3}
CLOSE_ENOUGH = 0.1  # half precision


class Step(NamedTuple):
    """What one step did; losses are means over prompts."""

    number: int  # from 1
    suffix: Suffix
    target_loss: float
    refusal_loss: float
    total: float
    best_total: float


@dataclass(frozen=True)
class Width:
    """How wide a step looks."""

    batch: int  # B, candidates drawn
    topk: int


class Search:
    """Optimises one suffix for all prompts together. `state` and `restore` make it resumable to the same bits."""

    def __init__(
        self, model: Any, prompts: Sequence[Prompt], objective: Objective, width: Width, forbidden: Tensor,
        reachability: Reachability | None,
    ) -> None:  # fmt: skip
        self.model, self.prompts, self.objective, self.width = model, list(prompts), objective, width
        self._forbidden = forbidden.to(model.device)
        self._reachability = reachability
        self.reuses_prefix = prefix_reuse_is_exact(model, prompts[0])
        self.candidates = CandidateLosses(model, prompts, reuse=self.reuses_prefix)
        self._gradient = CandidateGradient(model, prompts, objective, reuse=self.reuses_prefix)

    def begin(self, suffix: Suffix, seed: int) -> None:
        self.step_number, self.current = 0, suffix
        self.generator = torch.Generator().manual_seed(seed)
        losses = self.losses(suffix)
        self.best, self.best_losses = suffix, losses

    def losses(self, suffix: Suffix) -> tuple[float, float]:
        """(target, refusal) of one suffix, means over prompts."""
        found = self.candidates.of(torch.tensor([suffix]))
        n = len(self.prompts)
        return float(found.target[0]) / n, float(found.refusal[0]) / n

    def total(self, losses: tuple[float, float]) -> float:
        return losses[0] + self.objective.alpha * losses[1]

    def step(self) -> Step:
        """One step of the search."""
        candidates = self.draw()
        found = self.candidates.of(torch.tensor(candidates), self.current)
        chosen = int(found.total(self.objective.alpha).argmin())
        n = len(self.prompts)
        losses = float(found.target[chosen]) / n, float(found.refusal[chosen]) / n
        self.step_number, self.current = self.step_number + 1, candidates[chosen]
        if self.total(losses) < self.total(self.best_losses):
            self.best, self.best_losses = self.current, losses
        return Step(self.step_number, self.current, *losses, self.total(losses), self.total(self.best_losses))

    def draw(self) -> list[Suffix]:
        """The candidates of the next step. Raises InvalidInput where none survives as text, twice."""
        gradient = normalised(self._gradient.of(self.current))
        top = top_tokens(gradient, self._forbidden, self.width.topk)
        for _ in range(2):
            candidates = draw(self.current, top, self.width.batch, self.generator)
            if self._reachability is not None:
                candidates = self._reachability.reachable(candidates)
            if candidates:
                return candidates
        raise InvalidInput(
            f"no candidate survives being written out and read again by the tokenizer of {self._reachability}; choose "
            "another suffix_init, or set filter_candidates to false"
        )

    # Resuming -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as JSON."""
        return {
            "step": self.step_number, "current": self.current, "best": self.best, "best_losses": self.best_losses,
            "generator": base64.b64encode(self.generator.get_state().numpy().tobytes()).decode(),
            "most_rows": self.candidates.most_rows, "most_prompts": self._gradient.most_prompts,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.step_number, self.current = state["step"], tuple(state["current"])
        self.best, self.best_losses = tuple(state["best"]), tuple(state["best_losses"])
        self.candidates.most_rows = state["most_rows"]
        self._gradient.take(state["most_prompts"])
        raw = bytearray(base64.b64decode(state["generator"]))
        self.generator = torch.Generator()
        self.generator.set_state(torch.frombuffer(raw, dtype=torch.uint8))


def prefix_reuse_is_exact(model: Any, prompt: Prompt) -> bool:
    """Whether this model computes the same with a cached prefix; one whose cache works otherwise runs without."""
    suffix = torch.tensor([prompt.conversation.suffix])
    plain = CandidateLosses(model, [prompt], reuse=False).of(suffix)
    try:
        cached = CandidateLosses(model, [prompt]).of(suffix)
    except (RuntimeError, TypeError, AttributeError, IndexError):  # whatever another kind of cache may raise
        return False
    return abs(float(plain.target - cached.target)) <= CLOSE.get(model.dtype, CLOSE_ENOUGH)
