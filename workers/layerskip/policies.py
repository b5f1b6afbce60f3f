"""How many tokens to draft next, and from which exit.

`static`: K. `constant`, `heuristic`, `heuristic_transient`: those of Hugging Face's assisted generation, with its
confidence threshold. `adaptive`: ours, by the theory's formula with measured costs and running acceptance per exit.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from workers.layerskip.answers import Step
from workers.layerskip.confidence import Confidence
from workers.layerskip.theory import CostModel, speedup

CONSTANT_K = 20
HEURISTIC_K = 20
CONFIDENCE = 0.4  # at a prompt's beginning
DECAY = 0.95  # per verified token
PRIOR = (2.0, 1.0)  # Beta: accepted, refused
SHADOW_STEPS = 8  # every so many steps all exits are looked at
MOST_DRAFTS = 16


class Plan(NamedTuple):
    """The next step."""

    exit_layer: int
    drafts: int
    look: bool = False  # compute every exit's token, to learn their acceptance


class Policy(Protocol):
    """Decides at step boundaries only: layers beyond the old exit have no keys of drafted tokens."""

    confidence: Confidence
    """Ends drafts early."""

    def plan(self) -> Plan:
        """The next step's exit and drafts."""

    def learn(self, step: Step, matches: Sequence[Sequence[bool]] | None) -> None:
        """What a step showed; matches[E − 1] says for each committed row whether exit E said the same token."""

    def begin(self) -> None:
        """A new prompt."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""

    def restore(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""


class Static:
    """Always the same E and K."""

    def __init__(self, exit_layer: int, drafts: int, confidence: float = 0.0) -> None:
        self.exit_layer, self.drafts, self.confidence = exit_layer, drafts, Confidence(confidence)

    def plan(self) -> Plan:
        return Plan(self.exit_layer, self.drafts)

    def learn(self, step: Step, matches: Sequence[Sequence[bool]] | None) -> None:
        self.confidence.learn(step.accepted, step.drafted)

    def begin(self) -> None:
        self.confidence.begin()

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None: ...


class Heuristic(Static):
    """Two more after a step whose drafts all stood, one less (at least 1) after any other."""

    def __init__(self, exit_layer: int, drafts: int, confidence: float, transient: bool) -> None:
        super().__init__(exit_layer, drafts, confidence)
        self._first, self._transient = drafts, transient

    def learn(self, step: Step, matches: Sequence[Sequence[bool]] | None) -> None:
        super().learn(step, matches)
        if step.drafted:
            self.drafts = self.drafts + 2 if step.accepted == step.drafted else max(1, self.drafts - 1)

    def begin(self) -> None:
        super().begin()
        if self._transient:
            self.drafts = self._first

    def state(self) -> dict[str, Any]:
        return {"drafts": self.drafts}

    def restore(self, state: dict[str, Any]) -> None:
        self.drafts = state["drafts"]


class Adaptive:
    """The (E, K) of the greatest predicted speed-up, by exponentially decayed matches of every exit."""

    def __init__(self, layers: int, costs: CostModel) -> None:
        self.layers, self._costs, self.confidence = layers, costs, Confidence()
        self._matched, self._missed = [0.0] * (layers - 1), [0.0] * (layers - 1)
        self._step = 0

    def plan(self) -> Plan:
        look = self._step % SHADOW_STEPS == 0
        self._step += 1
        choices = ((E, K) for E in range(1, self.layers) for K in range(1, MOST_DRAFTS + 1))
        best = max(choices, key=lambda choice: self._predicted(*choice))
        return Plan(*best, look) if self._predicted(*best) > 1 else Plan(best[0], 0, look)

    def _predicted(self, exit_layer: int, drafts: int) -> float:
        return speedup(self.acceptance(exit_layer), exit_layer, drafts, self.layers, self._costs)

    def acceptance(self, exit_layer: int) -> float:
        """The running estimate of α_E."""
        matched, missed = self._matched[exit_layer - 1] + PRIOR[0], self._missed[exit_layer - 1] + PRIOR[1]
        return matched / (matched + missed)

    def learn(self, step: Step, matches: Sequence[Sequence[bool]] | None) -> None:
        if matches is not None:
            for exit_layer, own in enumerate(matches, start=1):
                self._count(exit_layer, own)
        elif step.drafted:
            refused = [False] if step.accepted < step.drafted else []
            self._count(step.exit_layer, [True] * step.accepted + refused)

    def _count(self, exit_layer: int, matches: Sequence[bool]) -> None:
        for match in matches:
            self._matched[exit_layer - 1] = DECAY * self._matched[exit_layer - 1] + match
            self._missed[exit_layer - 1] = DECAY * self._missed[exit_layer - 1] + (not match)

    def begin(self) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"matched": self._matched, "missed": self._missed, "step": self._step}

    def restore(self, state: dict[str, Any]) -> None:
        self._matched, self._missed, self._step = list(state["matched"]), list(state["missed"]), state["step"]
