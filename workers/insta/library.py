"""A library ready to be embedded: tasks with refined instructions, rows of one task contiguous.

`refine_library` makes one from what a reader gives; `merge` puts changes into the tasks of an index.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.data.instruction_tasks import Instance, InstructionTask
from shared.jobs.errors import InvalidInput
from workers.insta.refinement import Refine, kept, refine, refined

HASH_BYTES = 32


@dataclass(frozen=True)
class StoredTask:
    """A task as an index holds it: one line of tasks.jsonl."""

    id: str
    instructions: tuple[str, ...]
    category: str | None = None
    dataset: str | None = None
    source: str | None = None
    languages: tuple[str, ...] | None = None
    split: str | None = None
    example: Instance | None = None
    n_examples: int | None = None
    further: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """The task as JSON; what is unknown is left out."""
        record = {
            "id": self.id, "instructions": list(self.instructions), "category": self.category,
            "dataset": self.dataset, "source": self.source,
            "languages": None if self.languages is None else list(self.languages), "split": self.split,
            "example": self.example and {"input": self.example.input, "output": self.example.output},
            "n_examples": self.n_examples, "further": self.further or None,
        }  # fmt: skip
        return json.dumps({key: value for key, value in record.items() if value is not None}, ensure_ascii=False)

    @classmethod
    def of_line(cls, line: str | bytes) -> "StoredTask":
        record = json.loads(line)
        record["instructions"] = tuple(record["instructions"])
        if "languages" in record:
            record["languages"] = tuple(record["languages"])
        if "example" in record:
            record["example"] = Instance(**record["example"])
        return cls(**record)


class Dropped(NamedTuple):
    """What refinement left out."""

    empty_instructions: int
    tasks: list[str]  # ids of tasks left with no instruction


@dataclass(frozen=True)
class Library:
    """Tasks and, flat, their instructions."""

    tasks: list[StoredTask]

    @property
    def texts(self) -> list[str]:
        """(N,) instructions, task after task."""
        return [text for task in self.tasks for text in task.instructions]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(T + 1,): rows of task t are offsets[t] … offsets[t + 1] − 1."""
        return np.cumsum([0, *(len(task.instructions) for task in self.tasks)], dtype=np.int64)

    def digest(self) -> str:
        """SHA-256 of every task's line."""
        sha = hashlib.sha256()
        for task in self.tasks:
            sha.update(task.line().encode() + b"\n")
        return sha.hexdigest()


def refine_library(tasks: Iterable[InstructionTask], mode: Refine, original_only: bool) -> tuple[Library, Dropped]:
    """Refined tasks; those left with no instruction are named."""
    stored, empty, left_out = [], 0, []
    for task in tasks:
        instructions = refined(task.templates, mode, original_only)
        empty += sum(not refine(template, mode) for template in kept(task.templates, mode, original_only))
        if instructions:
            stored.append(_stored(task, tuple(instructions)))
        else:
            left_out.append(task.id)
    return Library(stored), Dropped(empty, left_out)


def _stored(task: InstructionTask, instructions: tuple[str, ...]) -> StoredTask:
    return StoredTask(
        task.id, instructions, task.category, task.dataset, task.source, task.languages, task.split, task.example,
        task.n_examples, task.further,
    )  # fmt: skip


def merge(base: Sequence[StoredTask], changed: Library, remove: Sequence[str]) -> Library:
    """The base's tasks without the removed ones, changed ones in their place, new ones behind. Raises InvalidInput."""
    unknown = sorted(set(remove) - {task.id for task in base})
    if unknown:
        raise InvalidInput(
            f"remove names tasks that base_index does not hold: {', '.join(unknown[:5])}; leave them out"
        )
    both = sorted(set(remove) & {task.id for task in changed.tasks})
    if both:
        raise InvalidInput(f"{', '.join(both[:5])} is in library and in remove; name it in one of them")
    tasks = {task.id: task for task in base if task.id not in set(remove)}
    tasks.update({task.id: task for task in changed.tasks})
    return Library(list(tasks.values()))


def text_hash(text: str) -> bytes:
    """SHA-256 of a refined text: with the encoder's digest it names a vector."""
    return hashlib.sha256(text.encode()).digest()


def text_hashes(texts: Sequence[str]) -> NDArray[np.uint8]:
    """(N, 32)."""
    packed = b"".join(text_hash(text) for text in texts)
    return np.frombuffer(packed, np.uint8).reshape(len(texts), HASH_BYTES)
