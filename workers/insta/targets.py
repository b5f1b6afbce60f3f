"""Targets of a job: inline, a task of the library, or a file of many."""

from dataclasses import dataclass
from pathlib import Path

from shared.data.instruction_tasks import Instance, InstructionTask, read_tasks
from shared.jobs.catalog.insta import MAX_INSTRUCTIONS, QueryParams
from shared.jobs.errors import InvalidInput
from workers.insta.index import Index
from workers.insta.refinement import refined

ONLY = "target"
"""The id of a target that a query writes out."""


@dataclass(frozen=True)
class Target:
    """What somebody wants a model to be good at."""

    id: str
    instructions: tuple[str, ...]
    dataset: str | None = None
    category: str | None = None
    example: Instance | None = None
    number: int | None = None  # in the library, if it is one of its tasks
    where: str = "the target"


def target_of_task(index: Index, number: int, where: str = "task_id") -> Target:
    """A task of the library as a target."""
    task = index.task(number)
    return Target(task.id, task.instructions, task.dataset, task.category, task.example, number, where)


def inline_target(params: QueryParams, index: Index) -> Target:
    """The one target of a query. Raises InvalidInput for an unknown task_id."""
    example = Instance(params.example.input, params.example.output) if params.example else None
    if params.task_id is not None:
        return target_of_task(index, index.number_of(params.task_id, "task_id"))
    instructions = tuple(dict.fromkeys(text.strip() for text in params.instructions or ()))
    return Target(ONLY, instructions, params.dataset, None, example)


def read_targets(path: Path, name: str, index: Index) -> list[Target]:
    """Targets of a file, refined as the library was. Raises InvalidInput with the line."""
    tasks = read_tasks(path, name)
    return [_target(task, index) for task in tasks]


def _target(task: InstructionTask, index: Index) -> Target:
    manifest = index.manifest
    instructions = refined(task.templates, manifest["refine"], manifest["original_task_only"])
    if not instructions:
        raise InvalidInput(f"{task.where}: {task.id} has no instruction left after refinement; write one out")
    if len(instructions) > MAX_INSTRUCTIONS:
        raise InvalidInput(
            f"{task.where}: {task.id} has {len(instructions)} instructions; a target has at most {MAX_INSTRUCTIONS}"
        )
    return Target(
        task.id, tuple(instructions), task.dataset, task.category, task.example, index.find(task.id), task.where
    )
