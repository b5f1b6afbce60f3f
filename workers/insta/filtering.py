"""Which tasks are candidates at all: filters, applied before ranking."""

from collections.abc import Sequence

import numpy as np

from shared.jobs.catalog.insta import Filters
from shared.jobs.errors import InvalidInput
from workers.insta.index import Index
from workers.insta.library import text_hash
from workers.insta.retrieval import Bools
from workers.insta.scoring import Ints
from workers.insta.targets import ONLY, Target

COLUMN_FILTERS = {"sources": "source", "datasets": "dataset", "categories": "category", "splits": "split"}
HASHED_AT_ONCE = 65_536


def candidates(index: Index, filters: Filters, target: Target | None) -> Ints:
    """(T',) numbers of the tasks that pass. Raises InvalidInput when none does, and for unknown task ids."""
    return Candidates(index, filters).of(target)


class Candidates:
    """The filters of one job: what they say of the library is worked out once, whatever the number of targets."""

    def __init__(self, index: Index, filters: Filters) -> None:
        self._index, self._filters = index, filters
        self._passed = _passed_columns(index, filters)

    def of(self, target: Target | None) -> Ints:
        """As `candidates`."""
        index, filters, left = self._index, self._filters, self.left(target)
        if not len(left):
            whose = f" for {target.id}" if target is not None and target.id != ONLY else ""
            raise InvalidInput(
                f"filters leave no task of {index.name}{whose}: {_said(filters)}; loosen them{_values(index, filters)}"
            )
        return left

    def left(self, target: Target | None) -> Ints:
        """As `of`, but there may be none."""
        passed = self._passed
        if target is not None:
            passed = passed & _not_the_target(self._index, self._filters, target)
        return np.flatnonzero(passed)


def _passed_columns(index: Index, filters: Filters) -> Bools:
    passed = np.ones(index.size, np.bool_)
    for field, column in COLUMN_FILTERS.items():
        if wanted := getattr(filters, field):
            passed &= _among(index, column, wanted)
    if filters.languages:
        passed &= _speaks_only(index, set(filters.languages))
    if filters.allow:
        passed &= _named(index, filters.allow, "filters.allow")
    if filters.deny:
        passed &= ~_named(index, filters.deny, "filters.deny")
    return passed


def _among(index: Index, column: str, wanted: Sequence[str]) -> Bools:
    values = index.column_values[column]
    codes = [code for code, value in enumerate(values) if value in set(wanted)]
    return np.isin(index.codes(column), codes)


def _speaks_only(index: Index, wanted: set[str]) -> Bools:
    """All of a task's languages are wanted ones; a task that doesn't say does not pass."""
    values = index.column_values["languages"]
    codes = [code for code, value in enumerate(values) if set(value.split("\n")) <= wanted]
    return np.isin(index.codes("languages"), codes)


def _named(index: Index, ids: Sequence[str], field: str) -> Bools:
    named = np.zeros(index.size, np.bool_)
    named[[index.number_of(task_id, field) for task_id in ids]] = True
    return named


def _not_the_target(index: Index, filters: Filters, target: Target) -> Bools:
    passed = np.ones(index.size, np.bool_)
    if target.number is not None:
        passed[target.number] = False
    if filters.exclude_same_dataset and target.dataset is not None:
        passed &= ~_among(index, "dataset", [target.dataset])
    if filters.exclude_identical_instruction:
        passed[tasks_with_instructions(index, target.instructions)] = False
    return passed


def tasks_with_instructions(index: Index, instructions: Sequence[str]) -> Ints:
    """Tasks that have one of these instructions word for word."""
    hashes = np.load(index.folder / "hashes.npy", mmap_mode="r").reshape(-1).view("S32")
    wanted = np.frombuffer(b"".join(text_hash(text) for text in instructions), "S32")
    rows = np.flatnonzero(np.isin(hashes, wanted))
    return np.unique(index.task_of_row(rows))


def _said(filters: Filters) -> str:
    said = filters.model_dump(exclude_defaults=True)
    return ", ".join(f"{name} {value}" for name, value in said.items()) or "the target is its only task"


def _values(index: Index, filters: Filters) -> str:
    """What the first column filter could have been."""
    for field, column in COLUMN_FILTERS.items():
        if getattr(filters, field):
            return f"; {field} of this library: {', '.join(index.column_values[column][:8]) or 'none'}"
    return ""
