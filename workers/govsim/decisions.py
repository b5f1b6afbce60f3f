"""Logged harvest decisions, as a clone learns them: what the agent saw of the stock, and what it asked for."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from shared.jobs.catalog.govsim import MAX_CAPACITY, MAX_DEMAND
from shared.jobs.errors import InvalidInput
from workers.govsim.records import what_is_wrong

UNIVERSALIZATION = "if everyone"  # what every wording of that memory says


class DecisionLine(BaseModel):
    """What is read of a line; other keys are ignored."""

    run: str | int
    model: str
    pool: Annotated[int, Field(ge=0, le=MAX_CAPACITY)]
    memories: list[str]
    reply: str | None
    wanted: Annotated[int, Field(ge=0, le=MAX_DEMAND)]


@dataclass(frozen=True)
class Decision:
    """One harvest decision."""

    run: str
    model: str
    stock: int
    universalized: bool  # the sentence was in memory
    wanted: int


class Chosen(NamedTuple):
    """Decisions to learn from."""

    decisions: list[Decision]
    left_out: int


def choose(path: Path, source: str, models: Sequence[str] | None) -> Chosen:
    """The decisions of a file that a model made and said, in societies of that model alone. Raises InvalidInput."""
    lines = list(_read(path, source))
    societies: dict[str, set[str]] = {}
    for line in lines:
        societies.setdefault(str(line.run), set()).add(line.model)
    decisions = [
        Decision(str(line.run), line.model, line.pool, _is_universalized(line), line.wanted)
        for line in lines
        if line.reply and len(societies[str(line.run)]) == 1 and (models is None or line.model in models)
    ]
    if not decisions:
        known = ", ".join(sorted({line.model for line in lines})) or "none"
        raise InvalidInput(
            f"{source}: holds no decision to learn from; models in it: {known}. Give models of it whose runs aren't "
            "mixed"
        )
    return Chosen(decisions, len(lines) - len(decisions))


def _is_universalized(line: DecisionLine) -> bool:
    return any(UNIVERSALIZATION in memory for memory in line.memories)


def _read(path: Path, source: str) -> Iterable[DecisionLine]:
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                yield _parse(line, f"{source}, line {number}")


def _parse(line: bytes, where: str) -> DecisionLine:
    form = "{run, model, month, agent, pool, memories, reply, wanted}"
    try:
        return DecisionLine.model_validate(json.loads(line), strict=True)
    except ValidationError as wrong:
        raise InvalidInput(f"{where}: {what_is_wrong(wrong)}; give {form} on each line") from None
    except (ValueError, RecursionError) as broken:
        raise InvalidInput(f"{where}: is not whole JSON ({broken}); give {form} on each line") from None
