"""INSTA's stop: our own task library is indexed, and a target in words nobody trained on finds its tasks.

The query is submitted while its index is unfinished: it waits `blocked` and starts by itself. Another one follows, to a
worker that has index and encoder at hand.
"""

from typing import Any

from services.client import Job, Tenfold
from services.local.tour import Follow, Row, Stop

TARGET = "Arrange these names so that they follow one another as in a telephone book."
AGAIN = "Which amount is the greatest of all?"
SHOWN = 3


def run(tenfold: Tenfold, follow: Follow) -> list[Row]:
    """Index the library, ask it twice, and give the selections with what they took."""
    index = tenfold.submit("insta.index", {"library": "builtin:tasks"}, name="forty tasks of our own")
    first = tenfold.submit("insta.query", _query(index, TARGET), name="a target in other words")
    indexed, answered = follow([index, first])
    (again,) = follow([tenfold.submit("insta.query", _query(index, AGAIN), name="another target")])
    result = indexed.result or {}
    size = f"{result['tasks']} tasks, {result['instructions']} instructions in {indexed.timings['encode']:.1f} s"
    return [
        Row("library", "indexed", size),
        *_rows("telephone book", answered),
        *_rows("greatest amount", again),
        Row("greatest amount", "answered by a warm worker in", f"{1000 * again.timings['run']:.0f} ms"),
    ]


def _query(index: Job, instruction: str) -> dict[str, Any]:
    return {"index": f"job:{index.id}/index.tar", "instructions": [instruction], "k": 5}


def _rows(target: str, job: Job) -> list[Row]:
    """The first tasks of a selection, with cosine and z-score."""
    found = (job.result or {})["results"][:SHOWN]
    return [
        Row(target, f"{task['rank']}. {task['task_id']}", f"cos {task['score']:.2f}, z {task['z']:.1f}")
        for task in found
    ]


STOP = Stop("insta", "Instruction-based selection: which tasks would help with this one?", run, order=20)
