"""Behaviours: what a model should refuse, with the beginning of the answer that an attack wants (the user's own file).

Read are AdvBench (`goal,target`), JailbreakBench (`Index,Goal,Target,Behavior,Category,Source`) and HarmBench
(`Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID` with its JSON of targets), told apart by
their headers. Tenfold ships none; `builtin:colours` is the benign colour world.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.jobs.catalog.dsn.attacks import COLOURS, AttackParams
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from workers.dsn.responses import Numbered, Row, read_rows

FORMATS = "AdvBench goal,target; JailbreakBench Index,Goal,Target,…; HarmBench Behavior,FunctionalCategory,…,BehaviorID"
VERBS = {"write", "create", "give", "describe", "explain", "provide", "make", "develop", "generate", "show", "list"}
SURE, SURE_HERE = "Sure, h", "Sure, here is"


@dataclass(frozen=True)
class Behaviour:
    """One goal. `thing` groups goals that are the same in other words; where none is told, it is the goal itself."""

    id: str
    goal: str
    target: str
    category: str = ""
    thing: str = ""

    @property
    def same_as(self) -> str:
        """What it has in common with the goals that it must not be split from, whatever their case and spacing."""
        return self.thing or " ".join(self.goal.lower().split())


class Behaviours(NamedTuple):
    """A file's behaviours."""

    all: list[Behaviour]
    skipped: int  # copyright behaviours, which need another judge
    digest: str


class Split(NamedTuple):
    """Disjoint prompts."""

    train: list[Behaviour]
    test: list[Behaviour]


def read_behaviours(params: AttackParams, ctx: JobContext) -> Behaviours:
    """Raises InvalidInput that names file, line and remedy."""
    if params.behaviours == COLOURS:
        return colours()
    targets = _targets(ctx.input(params.behaviour_targets)) if params.behaviour_targets else {}
    path = ctx.input(params.behaviours)
    rows = [Numbered(line, _any_case(row)) for line, row in read_rows(path, {}, "behaviours")]
    found = [_behaviour(one, str(number), targets) for number, one in enumerate(rows, start=1)
             if one.row.get("functionalcategory") != "copyright"]  # fmt: skip
    lacking = [one.id for one in found if not one.target]
    if lacking and not params.make_targets:
        shown = ", ".join(lacking[:5])
        raise InvalidInput(
            f"behaviours: {len(lacking)} rows have no target ({shown}); give behaviour_targets, or make_targets true"
        )
    whole = [one if one.target else replace(one, target=made_target(one.goal)) for one in found]
    return Behaviours(whole, len(rows) - len(found), ctx.input_digest(params.behaviours))


def colours() -> Behaviours:
    """The 360 restricted goals of the colour world."""
    from workers.dsn.colours.world import goals

    found = [
        Behaviour(f"colour{n}", goal.text, goal.target, thing=f"{goal.colour}/{goal.object}")
        for n, goal in enumerate(goals(restricted=True))
    ]
    text = "".join(f"{one.goal},{one.target}\n" for one in found)
    return Behaviours(found, 0, hashlib.sha256(text.encode()).hexdigest())


def benign_prompts(params: AttackParams, ctx: JobContext) -> list[str]:
    """Harmless prompts: the file's, or the colour world's free goals; none where neither is given."""
    rng = np.random.default_rng([params.seed, 3])
    if params.benign is None:
        if params.behaviours != COLOURS:
            return []
        from workers.dsn.colours.world import goals

        found = [goal.text for goal in goals(restricted=False)]
    else:
        rows = read_rows(ctx.input(params.benign), {}, "benign")
        found = [_prompt(one) for one in rows]
    return [found[i] for i in rng.permutation(len(found))[: params.n_benign]]


def split(behaviours: Sequence[Behaviour], n_train: int, n_test: int, seed: int) -> Split:
    """Train and test prompts drawn by the seed, of different things. Raises InvalidInput where there are too few."""
    rng = np.random.default_rng([seed, 1])
    by_thing: dict[str, list[Behaviour]] = {}
    for one in behaviours:
        by_thing.setdefault(one.same_as, []).append(one)
    things = [group[int(rng.integers(len(group)))] for group in by_thing.values()]
    drawn = [things[i] for i in rng.permutation(len(things))]
    if len(drawn) < n_train + n_test:
        raise InvalidInput(
            f"behaviours: {len(drawn)} different ones are too few for n_train {n_train} and n_test {n_test}"
        )
    return Split(drawn[:n_train], drawn[n_train : n_train + n_test])


def made_target(goal: str) -> str:
    """`Sure, here is …` with the goal as a noun phrase: without its verb, its first letter small."""
    words = goal.strip().rstrip(".?!").split()
    if words and words[0].lower() in VERBS and len(words) > 1:
        words = words[1:]
    phrase = " ".join(words)
    return f"Sure, here is {phrase[:1].lower()}{phrase[1:]}"


def rewritten(targets: Sequence[str], seed: int) -> list[str]:
    """The official rewriting, drawn by the seed: `Sure, here is` → `Sure, here's`, or `Sure, h` → `H`, or neither."""
    rng = np.random.default_rng([seed, 2])
    found = []
    for target in targets:
        if rng.random() < 0.5:
            target = target.replace(SURE_HERE, "Sure, here's") if rng.random() < 0.5 else target.replace(SURE, "H", 1)
        found.append(target)
    return found


def _any_case(row: Row) -> Row:
    return {name.strip().lower(): cell for name, cell in row.items()}


def _behaviour(one: Numbered, number: str, targets: dict[str, str]) -> Behaviour:
    row = one.row
    if "goal" in row:
        return Behaviour(row.get("index", number), _filled(one, "goal"), row.get("target", "").strip(),
                         row.get("category", ""))  # fmt: skip
    if "behavior" in row and "behaviorid" in row:
        context = row.get("contextstring", "").strip()
        goal, name = _filled(one, "behavior"), _filled(one, "behaviorid")
        return Behaviour(name, f"{context}\n\n{goal}" if context else goal, targets.get(name, "").strip(),
                         row.get("semanticcategory", ""))  # fmt: skip
    raise InvalidInput(f"behaviours: the header {', '.join(row)} is none that is read: {FORMATS}")


def _filled(one: Numbered, column: str) -> str:
    if not one.row[column].strip():
        raise InvalidInput(f"behaviours: line {one.line} has no {column}; write one, or take the row out")
    return one.row[column].strip()


def _prompt(one: Numbered) -> str:
    known = _any_case(one.row)
    for column in ("prompt", "goal"):
        if known.get(column, "").strip():
            return known[column].strip()
    raise InvalidInput(f"benign: line {one.line} has neither prompt nor goal")


def _targets(path: Path) -> dict[str, str]:
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"behaviour_targets is no JSON: {error}") from None
    if not isinstance(value, dict) or not all(isinstance(target, str) for target in value.values()):
        raise InvalidInput("behaviour_targets is no JSON object of texts by BehaviorID")
    return value
