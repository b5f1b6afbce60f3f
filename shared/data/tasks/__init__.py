"""`builtin:tasks`: a small library of forty generated tasks in eight categories, five each, in our own words.

Every task has three instructions and a maker of examples, so the library serves for selection (instructions) and for
tuning (instances). `write_library` is the entry point; the same version writes the same bytes everywhere.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

VERSION = 1  # goes up when the bytes change
INSTANCES = 640
MOST_DRAWS = 20 * INSTANCES

Draw = Callable[[random.Random], tuple[str, str]]
"""One (input, output) of a task."""


class GeneratedTask(NamedTuple):
    """A task of the library."""

    name: str
    instructions: tuple[str, str, str]
    draw: Draw


def library() -> Iterator[tuple[str, GeneratedTask]]:
    """(category, task), in the library's order."""
    from shared.data.tasks import letters, lists, numbers, words

    for family in (lists, numbers, words, letters):
        for category, tasks in family.CATEGORIES.items():
            for task in tasks:
                yield category, task


def record(category: str, task: GeneratedTask) -> dict[str, Any]:
    """The task as a line of a library; its first instance is the example."""
    instances = list(_instances(task))
    return {
        "id": f"tenfold/{task.name}", "source": "tenfold", "dataset": task.name, "category": category,
        "languages": ["English"], "split": "train", "instructions": list(task.instructions),
        "example": instances[0], "n_examples": len(instances), "instances": instances,
    }  # fmt: skip


def write_library(path: Path) -> None:
    """The library as JSON lines."""
    lines = [json.dumps(record(category, task), ensure_ascii=False) + "\n" for category, task in library()]
    path.write_text("".join(lines), encoding="utf-8")


def _instances(task: GeneratedTask) -> Iterator[dict[str, str]]:
    """At most INSTANCES different inputs; a task with few possible inputs has fewer."""
    rng, seen = random.Random(f"{VERSION}/{task.name}"), set()
    for _ in range(MOST_DRAWS):
        given, wanted = task.draw(rng)
        if given not in seen:
            seen.add(given)
            yield {"input": given, "output": wanted}
        if len(seen) == INSTANCES:
            return
