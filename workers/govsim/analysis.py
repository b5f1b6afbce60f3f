"""Many logs read into groups: who belongs where, who counts, who is rejected."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from shared.jobs.catalog.govsim import AnalysedRun, AnalyseParams, AnalyseResult, GroupMetrics, RejectedRun
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from workers.govsim.figures import Condition
from workers.govsim.imported import ImportedRun, Interrupted, stack
from workers.govsim.links import MOST_LINKED, RunLinks
from workers.govsim.logs import Defaults, count_runs, read_runs
from workers.govsim.records import lines
from workers.govsim.replies import failure_rate, read_replies
from workers.govsim.report import RESULT_BYTES, bytes_of, first_outcomes, statistics
from workers.govsim.tally import Tally
from workers.govsim.trajectories import Conditions, measure

RUNS = "runs.jsonl"
PORTION_RUNS = 1_000  # the checkpoint's grain
PORTION_CELLS = 1_000_000  # agent-months held at once
UNCOMPARED = frozenset({"group", "names", "models"})  # of a condition: the group's name says what matters of models


@dataclass
class Group:
    """One condition's runs."""

    name: str
    tally: Tally
    condition: dict[str, Any]  # as the first run states it
    communication: bool
    capacity: int  # the largest stock seen
    invalid_runs: int = 0
    first: list[ImportedRun] = field(default_factory=list)  # runs that figures lead to

    def to_state(self) -> dict[str, Any]:
        """As JSON, without the tally, which a checkpoint keeps as bytes."""
        return {
            "name": self.name,
            "condition": self.condition,
            "communication": self.communication,
            "capacity": self.capacity,
            "invalid_runs": self.invalid_runs,
            "conditions": asdict(self.tally.conditions),
            "first": [asdict(run) for run in self.first],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], tally: bytes) -> "Group":
        """Back from a checkpoint."""
        fields = {name: value for name, value in state.items() if name not in ("conditions", "first")}
        conditions = _conditions_of(state["conditions"])
        first = [ImportedRun(**{**run, "conditions": _conditions_of(run["conditions"])}) for run in state["first"]]
        return cls(**fields, tally=Tally.from_bytes(tally, conditions), first=first)

    def remember(self, run: ImportedRun) -> None:
        """Keep one of the first runs, without its log."""
        if len(self.first) < MOST_LINKED:
            self.first.append(replace(run, log=None))


@dataclass(frozen=True)
class Judged:
    """A run and whether it counts."""

    run: ImportedRun
    parse_failure_rate: float | None
    invalid: bool


class Analysis:
    """The state of one `govsim.analyse` job."""

    def __init__(self, params: AnalyseParams, ctx: JobContext) -> None:
        self._params = params
        self._ctx = ctx
        self._taken = 0
        self._groups: dict[str, Group] = {}
        self._rejected: list[RejectedRun] = []
        self._resume()

    def run(self) -> None:
        """Read every source to its end."""
        counts = [count_runs(path) for path, _ in self._sources]
        for ref, count in zip(self._params.sources, counts, strict=True):
            if count == 0:
                raise InvalidInput(f"{ref} holds no run: export it again, whole")
        total = sum(counts)
        items = itertools.islice(self._items(), self._taken, None)
        for portion in _portions(items):
            self._add([self._judge(run) for _, run in portion if isinstance(run, ImportedRun)])
            self._reject(portion)
            self._taken += len(portion)
            self._ctx.progress(self._taken, total, "runs")
            if total > PORTION_RUNS:
                self._save()
        self._ctx.journal(RUNS).handle.flush()
        self._check_replies_met_runs()
        for rejected in self._rejected:
            self._ctx.log(f"rejected {rejected.run} of {rejected.source}: {rejected.reason}")

    @property
    def conditions(self) -> list[Condition]:
        """Groups that have runs to draw."""
        return [
            Condition(
                group.name, group.tally, group.communication, group.capacity, tuple(map(RunLinks.of, group.first))
            )
            for group in self._groups.values()
            if group.tally.runs
        ]

    def imported(self) -> Iterator[ImportedRun]:
        """All finished runs again, in order."""
        return (run for _, run in self._items() if isinstance(run, ImportedRun))

    def result(self) -> AnalyseResult:
        """Groups first, then rejections, then runs, as far as the result's bound goes; the artifacts hold all."""
        groups = [
            GroupMetrics(
                group=group.name, runs=group.tally.runs, invalid_runs=group.invalid_runs, **statistics(group.tally)
            )
            for group in self._groups.values()
        ]
        _write_all(self._ctx, "groups.jsonl", groups)
        _write_all(self._ctx, "rejected.jsonl", self._rejected)
        room = RESULT_BYTES
        shown, room = _fitting(groups, room, at_most=room // 2)
        rejected, room = _fitting(self._rejected, room, at_most=room // 4)
        runs = first_outcomes(Path(self._ctx.journal(RUNS).path), AnalysedRun, room)
        return AnalyseResult(groups=shown, runs=runs, rejected=rejected)

    # Sources ------------------------------------------------------------------------------------------------------

    @cached_property
    def _sources(self) -> list[tuple[Path, Defaults]]:
        labels = self._params.labels or itertools.repeat(None)
        return [
            (self._ctx.input(_runs_of(ref)), self._defaults(ref, label))
            for ref, label in zip(self._params.sources, labels, strict=False)
        ]

    def _defaults(self, ref: Ref, label: str | None) -> Defaults:
        return Defaults(str(ref), label, self._params.months, self._params.growth, self._params.collapse_below)

    def _items(self) -> Iterator[tuple[str, ImportedRun | Interrupted]]:
        for path, defaults in self._sources:
            for run in read_runs(path, defaults):
                self._ctx.check()
                yield defaults.source, replace(run, source=defaults.source) if isinstance(run, ImportedRun) else run

    @cached_property
    def _replies(self) -> dict[str, dict[tuple[int, str], bool]]:
        ref = self._params.replies
        return read_replies(self._ctx.input(ref), str(ref)) if ref is not None else {}

    def _check_replies_met_runs(self) -> None:
        """Replies that match no run would leave every silent failure unseen."""
        if self._replies and not self._replies.keys() & {run.name for run in self.imported()}:
            named = ", ".join(list(self._replies)[:3])
            raise InvalidInput(
                f"{self._params.replies}: its runs ({named}, …) are none of the sources' runs; `run` must be the name "
                "the run has in its source"
            )

    # Runs ---------------------------------------------------------------------------------------------------------

    def _judge(self, run: ImportedRun) -> Judged:
        readable = self._replies.get(run.name)
        if readable is None:
            return Judged(run, None, run.invalid)
        rate = failure_rate(readable, sum(map(len, run.granted)))
        return Judged(run, rate, run.invalid or rate > self._params.max_parse_failure_rate)

    def _add(self, judged: list[Judged]) -> None:
        """Measure the runs group by group, but write their lines in the order they came."""
        written: dict[int, bytes] = {}
        for group, places in self._by_group(judged).items():
            batch = [judged[place] for place in places]
            for place, line in zip(places, _measured_lines(self._groups[group], batch), strict=True):
                written[place] = line
        for place in range(len(judged)):
            self._ctx.journal(RUNS).append(written[place])

    def _by_group(self, judged: list[Judged]) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for place, item in enumerate(judged):
            self._join(item.run)
            places.setdefault(item.run.group, []).append(place)
        return places

    def _join(self, run: ImportedRun) -> None:
        """Enter a run's group, or open it."""
        group = self._groups.get(run.group)
        if group is None:
            group = self._groups[run.group] = Group(run.group, Tally(run.conditions), run.condition, False, 0)
        differing = _differences(run, group, self._params.labels is not None)
        if differing:
            raise InvalidInput(
                f"run {run.name}: was made under other conditions ({', '.join(differing)}) than the group "
                f"{run.group!r} it would join; give its source a label of its own in labels"
            )
        group.communication |= bool(run.condition["communication"])
        group.capacity = max(group.capacity, max(before for before, _ in run.pool))

    def _reject(self, portion: Iterable[tuple[str, ImportedRun | Interrupted]]) -> None:
        self._rejected += [
            RejectedRun(source=source, run=run.name, reason=run.reason)
            for source, run in portion
            if isinstance(run, Interrupted)
        ]

    # Checkpoints --------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        groups = list(self._groups.values())
        self._ctx.checkpoint(
            {
                "taken": self._taken,
                "groups": [group.to_state() for group in groups],
                "rejected": [rejected.model_dump() for rejected in self._rejected],
            },
            {f"tally-{number}": group.tally.to_bytes() for number, group in enumerate(groups)},
        )

    def _resume(self) -> None:
        restored = self._ctx.restored()
        if restored is None:
            return
        self._taken = restored.state["taken"]
        self._rejected = [RejectedRun(**said) for said in restored.state["rejected"]]
        for number, state in enumerate(restored.state["groups"]):
            group = Group.from_state(state, restored.blobs[f"tally-{number}"].read_bytes())
            self._groups[group.name] = group


def _conditions_of(said: dict[str, Any]) -> Conditions:
    return Conditions(**{**said, "names": tuple(said["names"])})


def _differences(run: ImportedRun, group: Group, is_labelled: bool) -> list[str]:
    """In what a run differs from a group so that it may not enter its means. Names of agents may differ; under a label
    that the job gave, so may all that metrics don't depend on: who labels two scenarios alike wants them pooled.
    """
    one, other = asdict(run.conditions), asdict(group.tally.conditions)
    differing = [name for name in one if name != "names" and one[name] != other[name]]
    if len(run.conditions.names) != len(group.tally.conditions.names):
        differing.insert(0, "agents")
    if is_labelled:
        return differing
    said = [name for name, value in run.condition.items() if group.condition.get(name, value) != value]
    return differing + [name for name in said if name not in (*UNCOMPARED, *differing)]


def _measured_lines(group: Group, judged: list[Judged]) -> Iterator[bytes]:
    """The group's new runs as lines; the valid ones enter its tally."""
    conditions = group.tally.conditions
    heads = [
        {"run": one.run.name, "group": group.name, "invalid": one.invalid, "parse_failure_rate": one.parse_failure_rate}
        for one in judged
    ]
    batch = stack([one.run for one in judged])
    yield from lines(batch, measure(batch, conditions), conditions, heads, [one.run.condition for one in judged])
    valid = [one.run for one in judged if not one.invalid]
    for run in valid:
        group.remember(run)
    group.invalid_runs += len(judged) - len(valid)
    if valid:
        group.tally.add(stack(valid))


def _portions(
    items: Iterator[tuple[str, ImportedRun | Interrupted]],
) -> Iterator[list[tuple[str, ImportedRun | Interrupted]]]:
    """Up to 1,000 runs at a time, fewer where they are large."""
    portion: list[tuple[str, ImportedRun | Interrupted]] = []
    cells = 0
    for item in items:
        portion.append(item)
        run = item[1]
        cells += run.conditions.months * len(run.conditions.names) if isinstance(run, ImportedRun) else 0
        if len(portion) == PORTION_RUNS or cells >= PORTION_CELLS:
            yield portion
            portion, cells = [], 0
    if portion:
        yield portion


def _runs_of(ref: Ref) -> Ref:
    """A whole job stands for its runs.jsonl."""
    return Ref(f"{ref}/{RUNS}") if ref.scheme == "job" and ref.artifact is None else ref


def _fitting(models: list[Any], room: int, at_most: int) -> tuple[list[Any], int]:
    """The first models that fit, and the room they leave."""
    kept: list[Any] = []
    for model in models:
        size = bytes_of(model.model_dump())
        if size > at_most:
            break
        kept.append(model)
        room, at_most = room - size, at_most - size
    return kept, room


def _write_all(ctx: JobContext, name: str, models: list[Any]) -> None:
    ctx.write_text(name, "".join(model.model_dump_json() + "\n" for model in models))
