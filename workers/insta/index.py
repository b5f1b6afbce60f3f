"""An open index: mapped vectors, tasks by number and id, columns for filters. `open_index` is the entry point."""

import bisect
import json
import mmap
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.models.sentence_encoder import unit
from workers.insta.index_file import check_manifest, unpack
from workers.insta.library import StoredTask
from workers.insta.moments import moments_of

COLUMNS = ("source", "dataset", "category", "split", "languages")
OPEN_INDEXES = 4
ROWS = 65_536  # converted at once, where a whole matrix would be too much
Halves = NDArray[np.float16]
Floats = NDArray[np.float64]


class Index:
    """One version of one library. Cheap to open: nothing that grows with the library is read."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.manifest = check_manifest(folder, name)
        self.vectors: Halves = np.load(folder / "vectors.npy", mmap_mode="r")
        self.offsets: NDArray[np.int64] = np.load(folder / "offsets.npy", mmap_mode="r")
        self._lines: NDArray[np.int64] = np.load(folder / "lines.npy", mmap_mode="r")
        with (folder / "tasks.jsonl").open("rb") as handle:
            self._tasks = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)

    @property
    def version(self) -> str:
        return str(self.manifest["version"])

    @property
    def size(self) -> int:
        """T, tasks."""
        return len(self.offsets) - 1

    @property
    def rows(self) -> int:
        """N, instructions."""
        return len(self.vectors)

    @property
    def is_one_to_one(self) -> bool:
        """Whether every task has one instruction: then all aggregates are the plain cosine."""
        return self.rows == self.size

    @property
    def is_aligned(self) -> bool:
        return (self.folder / "head.npy").exists()

    def task(self, number: int) -> StoredTask:
        """Task number 0 … T − 1."""
        return StoredTask.of_line(self._tasks[int(self._lines[number]) : int(self._lines[number + 1])])

    def tasks(self) -> Iterator[StoredTask]:
        return (self.task(number) for number in range(self.size))

    @lru_cache(maxsize=100_000)  # noqa: B019 - lives as long as the index, which the process keeps
    def task_id(self, number: int) -> str:
        return self.task(number).id

    def find(self, task_id: str) -> int | None:
        """The number of a task, by bisection over the sorted ids."""
        order = _Sorted(self._order, self.task_id)
        place = bisect.bisect_left(order, task_id)
        return int(self._order[place]) if place < self.size and order[place] == task_id else None

    def number_of(self, task_id: str, field: str) -> int:
        """As `find`. Raises InvalidInput for an unknown id."""
        number = self.find(task_id)
        if number is None:
            near = ", ".join(self.task_id(int(self._order[i])) for i in self._near(task_id))
            raise InvalidInput(f"{field} {task_id!r} is not in {self.name}; ids near it: {near}")
        return number

    def _near(self, task_id: str) -> range:
        place = bisect.bisect_left(_Sorted(self._order, self.task_id), task_id)
        return range(max(0, min(place - 1, self.size - 3)), min(self.size, place + 2))

    def task_of_row(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Task numbers of rows."""
        return np.searchsorted(self.offsets, rows, side="right") - 1

    def instruction(self, row: int) -> str:
        number = int(self.task_of_row(np.array([row]))[0])
        return self.task(number).instructions[row - int(self.offsets[number])]

    @cached_property
    def texts(self) -> list[str]:
        """(N,) every instruction."""
        return [text for task in self.tasks() for text in task.instructions]

    @cached_property
    def id_rank(self) -> NDArray[np.int64]:
        """(T,): a task's place among the sorted ids; the smaller one wins a tie."""
        rank = np.empty(self.size, np.int64)
        rank[self._order] = np.arange(self.size)
        return rank

    @cached_property
    def _order(self) -> NDArray[np.int32]:
        order: NDArray[np.int32] = np.load(self.folder / "order.npy", mmap_mode="r")
        return order

    @cached_property
    def columns(self) -> NDArray[np.int32]:
        """(T, 5) codes; see COLUMNS."""
        columns: NDArray[np.int32] = np.load(self.folder / "columns.npy", mmap_mode="r")
        return columns

    @cached_property
    def column_values(self) -> dict[str, list[str]]:
        """What the codes of each column mean."""
        values: dict[str, list[str]] = json.loads((self.folder / "columns.json").read_text(encoding="utf-8"))
        return values

    def codes(self, column: str) -> NDArray[np.int32]:
        """(T,) codes of one column."""
        codes: NDArray[np.int32] = self.columns[:, COLUMNS.index(column)]
        return codes

    @cached_property
    def terms(self) -> dict[str, Any]:
        """Document frequencies of the instructions' words."""
        terms: dict[str, Any] = json.loads((self.folder / "terms.json").read_text(encoding="utf-8"))
        return terms

    @cached_property
    def samples(self) -> Halves | None:
        """(T, d) vectors of examples, if the library was indexed with them."""
        path = self.folder / "samples.npy"
        return np.load(path, mmap_mode="r") if path.exists() else None

    @cached_property
    def head(self) -> NDArray[np.float32]:
        """(d, d) the alignment; the identity without one."""
        path = self.folder / "head.npy"
        return np.load(path) if path.exists() else np.eye(self.vectors.shape[1], dtype=np.float32)

    @cached_property
    def aligned(self) -> Halves:
        """(N, d) vectors through the head; the vectors themselves without one."""
        path = self.folder / "aligned.npy"
        return np.load(path, mmap_mode="r") if path.exists() else self.vectors

    @lru_cache(maxsize=2)  # noqa: B019 - as above
    def moments(self, aligned: bool) -> Floats:
        """(d + 1, d) of the vectors that are searched."""
        name = "aligned_moments.npy" if aligned and self.is_aligned else "moments.npy"
        moments: Floats = np.load(self.folder / name)
        return moments

    def position(self) -> tuple[NDArray[np.float32], NDArray[np.float32], Floats]:
        """(tasks on the map (T, 2), axes (2, d), mean row (d,))."""
        tasks, axes = np.load(self.folder / "map.npy", mmap_mode="r"), np.load(self.folder / "axes.npy")
        return tasks, axes, self.moments(aligned=False)[0]


class _Sorted(Sequence[str]):
    """The sorted ids, each read when looked at."""

    def __init__(self, order: NDArray[np.int32], task_id: Callable[[int], str]) -> None:
        self._order, self._task_id = order, task_id

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: Any) -> Any:
        return self._task_id(int(self._order[place]))


def open_index(ref: Ref, ctx: JobContext) -> Index:
    """The index behind a reference, unpacked on the first use of its content. Raises InvalidInput."""
    path, digest = ctx.input(ref), ctx.input_digest(ref)
    return open_folder(unpack(path, digest, ctx.cache_dir, str(ref), derive), str(ref))


@lru_cache(maxsize=OPEN_INDEXES)
def open_folder(folder: Path, name: str) -> Index:
    """Kept open in the process: the next query finds it mapped."""
    return Index(folder, name)


def derive(folder: Path) -> None:
    """What follows from the members: the vectors through the head."""
    if (folder / "head.npy").exists():
        head, vectors = np.load(folder / "head.npy"), np.load(folder / "vectors.npy", mmap_mode="r")
        aligned = np.lib.format.open_memmap(folder / "aligned.npy", "w+", np.float16, vectors.shape)
        for start in range(0, len(vectors), ROWS):
            aligned[start : start + ROWS] = through_head(vectors[start : start + ROWS], head)
        aligned.flush()
        np.save(folder / "aligned_moments.npy", moments_of(aligned))


def through_head(vectors: NDArray[Any], head: NDArray[np.float32]) -> NDArray[np.float32]:
    """x W / ‖x W‖."""
    return unit(np.asarray(vectors, np.float32) @ head)
