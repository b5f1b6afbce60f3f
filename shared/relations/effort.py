"""What annotating costs: edit steps between what was recommended and what was decided.

steps = |R \\ G| (deletes) + |G \\ R| (adds) over triples (h, t, r); relabelling is two. From scratch costs |G|.
"""

from collections.abc import Iterable
from typing import NamedTuple

from shared.relations.documents import Triple


class EditSteps(NamedTuple):
    """Steps from a recommended list to the final one."""

    deletes: int
    adds: int
    scratch: int
    """What the same result costs without recommendations: |G|."""

    @property
    def steps(self) -> int:
        return self.deletes + self.adds

    def cost(self, c_add: float = 1.0, c_del: float = 1.0) -> float:
        return c_add * self.adds + c_del * self.deletes


def edit_steps(recommended: Iterable[Triple], final: Iterable[Triple]) -> EditSteps:
    """R → G of one document."""
    r, g = frozenset(recommended), frozenset(final)
    return EditSteps(deletes=len(r - g), adds=len(g - r), scratch=len(g))


def reduction(steps: float, compared: float) -> float | None:
    """1 − steps / compared steps; None where the compared ones are 0."""
    return None if compared == 0 else 1 - steps / compared


def agreement(first: Iterable[Triple], second: Iterable[Triple], pairs: int, relations: int) -> "Agreement":
    """F1 and Cohen's κ of two annotators over all (pair, relation) decisions of a document or many."""
    a, b = frozenset(first), frozenset(second)
    decisions = pairs * relations
    both = len(a & b)
    f1 = 2 * both / (len(a) + len(b)) if a or b else None
    if not decisions:
        return Agreement(f1, None)
    observed = 1 - len(a ^ b) / decisions
    yes = len(a) / decisions * (len(b) / decisions)
    expected = yes + (1 - len(a) / decisions) * (1 - len(b) / decisions)
    return Agreement(f1, (observed - expected) / (1 - expected) if expected < 1 else None)


class Agreement(NamedTuple):
    """Of two annotators: F1 of one against the other (symmetric), Cohen's κ."""

    f1: float | None
    kappa: float | None
