"""Sweeps: the product of a grid and seeds over one kind's params, as jobs that were submitted together."""

import copy
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from shared.jobs.errors import BadRequest, FieldError, NotFound
from shared.jobs.states import JobState
from shared.jobs.store import PREFIX, JobStore

MAX_JOBS = 1000


class Sweep(NamedTuple):
    id: str
    owner: str
    kind: str
    name: str | None
    labels: dict[str, str]
    grid: dict[str, list[Any]]
    seeds: list[int] | None
    created_ms: int


class Sweeps:
    """Reading sweeps; they are written by `JobStore.submit_sweep`."""

    def __init__(self, store: JobStore) -> None:
        self._redis = store.redis

    def find(self, sweep_id: str) -> Sweep:
        """Raises NotFound."""
        fields = self._redis.hgetall(f"{PREFIX}sweep:{sweep_id}")
        if not fields:
            raise NotFound(f"there is no sweep {sweep_id}")
        return Sweep(
            id=sweep_id,
            owner=fields["owner"],
            kind=fields["kind"],
            name=fields.get("name"),
            labels=json.loads(fields.get("labels", "{}")),
            grid=json.loads(fields.get("grid", "{}")),
            seeds=json.loads(fields.get("seeds", "null")),
            created_ms=int(fields["created_ms"]),
        )

    def jobs(self, sweep_id: str) -> list[str]:
        """Its jobs in the order of the product."""
        return sorted(self._redis.lrange(f"{PREFIX}sweep_jobs:{sweep_id}", 0, -1))  # ids sort by creation

    def states(self, sweep_id: str) -> dict[str, int]:
        """How many of its jobs are in each state."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in self.jobs(sweep_id):
                pipe.hget(f"{PREFIX}job:{job_id}", "state")
            counts = Counter(state for state in pipe.execute() if state)
        return {state: counts.get(state, 0) for state in JobState}

    def page(self, limit: int, cursor: str | None) -> tuple[list[str], str | None]:
        """Ids newest first, and the cursor of the next page."""
        top = f"({cursor}" if cursor else "+"
        ids = list(self._redis.zrevrangebylex(f"{PREFIX}ix:sweeps", top, "-", start=0, num=limit))
        return ids, ids[-1] if len(ids) == limit else None


def expand(
    params: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], seeds: Sequence[int] | None
) -> Iterator[dict[str, Any]]:
    """The product: every combination of the grid's values, with every seed, made one by one. Raises BadRequest."""
    axes: list[tuple[str, Sequence[Any]]] = list(grid.items())
    if seeds is not None:
        if "seed" in grid:
            raise BadRequest(
                "seed is in the grid and in seeds: name it once", [_error("seeds", "seed is in the grid too")]
            )
        axes.append(("seed", seeds))
    count = 1
    for path, values in axes:
        if not values:
            raise BadRequest(f"grid.{path} is empty", [_error(f"grid.{path}", "needs at least one value")])
        count *= len(values)
    if count > MAX_JOBS:
        raise BadRequest(
            f"the sweep has {count} jobs; at most {MAX_JOBS} are allowed", [_error("grid", "too many jobs")]
        )
    combinations = itertools.product(*(values for _, values in axes))
    return (_with(params, [path for path, _ in axes], values) for values in combinations)


def _with(params: Mapping[str, Any], paths: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    changed: dict[str, Any] = copy.deepcopy(dict(params))
    for path, value in zip(paths, values, strict=True):
        _put(changed, path, value)
    return changed


def _put(target: Any, path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for name in parents:
        target = _step(target, name, path)
    if isinstance(target, dict):
        target[leaf] = value
    elif isinstance(target, list) and leaf.isdecimal() and int(leaf) < len(target):
        target[int(leaf)] = value
    else:
        raise BadRequest(
            f"grid path {path!r} leads nowhere in params", [_error(f"grid.{path}", "leads nowhere in params")]
        )


def _step(target: Any, name: str, path: str) -> Any:
    if isinstance(target, dict):
        return target.setdefault(name, {})
    if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
        return target[int(name)]
    raise BadRequest(f"grid path {path!r} leads nowhere in params", [_error(f"grid.{path}", "leads nowhere in params")])


def _error(path: str, message: str) -> FieldError:
    return FieldError(("body", *path.split(".", 1)), message, "sweep")
