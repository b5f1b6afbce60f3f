"""`runs.jsonl`: one line per run, self-contained, so that `govsim.analyse` needs nothing else.

`lines` writes it, `read_line` reads it. A line is a `RunOutcome` with the run's name before it and, after it, its
monthly Gini, utterances and agreed limits and the condition it was made under. Rows of a month hold the agents present.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.jobs.catalog.govsim import MAX_AGENTS, MAX_CAPACITY, MAX_MONTHS, AnyPolicy, Llm, SimulateParams
from shared.jobs.errors import InvalidInput
from workers.govsim.imported import ImportedRun
from workers.govsim.log_env import MAX_UNITS
from workers.govsim.randomness import Ints
from workers.govsim.trajectories import Conditions, RunMetrics, Trajectories, monthly_gini

CONDITION = "condition"  # the key of a line under which the condition stands
SHOWN_DEMANDS = 6  # of a replay, in a group's name
IN_NAME = frozenset({"scenario", "experiment", "agents", "policies", "names", "runs", "seed"})
"""Fields that a group's name holds anyway, or that tell no condition from another: names, runs and seed."""
OF_MODELS = (
    "framework_model", "parser", "temperature", "top_p", "max_tokens", "max_tokens_rating", "max_parse_failure_rate",
    "memory_encoder", "top_k_harvest", "top_k_utterance", "top_k_reflect", "recency_weight", "importance_weight",
    "relevance_weight", "recency_decay", "recency_order", "thought_days", "rate_chats",
)  # fmt: skip
"""Fields without meaning in a society of scripted agents."""

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def lines(
    batch: Trajectories,
    measured: RunMetrics,
    conditions: Conditions,
    heads: list[dict[str, Any]],
    said: list[dict[str, Any]],
) -> Iterator[bytes]:
    """The lines of `runs.jsonl` for a batch, in order, each with its head before and its condition behind."""
    scalars = _Rows({name: values.tolist() for name, values in measured._asdict().items()})
    months = _Months(batch, conditions)
    tails = _Tails()
    for row, head in enumerate(heads):
        text = _json({**head, **scalars.of(row), **months.of(row)})
        yield f"{text[:-1]},{months.harvests(row)}{tails.of(said[row])}".encode()


class _Rows:
    """Columns of metrics, read row by row; NaN is null."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns

    def of(self, row: int) -> dict[str, Any]:
        return {name: _null_if_nan(column[row]) for name, column in self._columns.items()}


class _Months:
    """The months of each run as JSON. Written row by row: a batch as nested lists would be millions of objects."""

    def __init__(self, batch: Trajectories, conditions: Conditions) -> None:
        self._batch = batch
        self._gini = monthly_gini(batch, conditions)
        self._gains = batch.granted.sum(axis=1)
        self._pool = np.stack([batch.before, batch.after], axis=2)
        self._newcomer_month = conditions.newcomer_month or 0

    def of(self, row: int) -> dict[str, Any]:
        played = self._batch.played[row]
        return {
            "gains": self._gains[row].tolist(),
            "pool": self._pool[row, :played].tolist(),
            "monthly_gini": [_null_if_nan(gini) for gini in self._gini[row, :played].tolist()],
            "utterances": self._batch.utterances[row, :played].tolist(),
            "limit": [None if limit < 0 else limit for limit in self._batch.limit[row, :played].tolist()],
        }

    def harvests(self, row: int) -> str:
        """`"granted":…,"demanded":…`; most months grant what is asked, so the second is mostly the first."""
        granted, demanded = self._present(self._batch.granted, row), self._present(self._batch.demanded, row)
        text = _json(granted)
        return f'"granted":{text},"demanded":{text if demanded == granted else _json(demanded)}'

    def _present(self, harvest: Ints, row: int) -> list[list[int]]:
        """The months of a run with the agents present."""
        months: list[list[int]] = harvest[row, : self._batch.played[row]].tolist()
        for month in months[: self._newcomer_month]:
            del month[-1]
        return months


def _null_if_nan(value: Any) -> Any:
    return None if value != value else value  # only NaN differs from itself


class _Tails:
    """The end of a line, written once for all runs that share their condition."""

    def __init__(self) -> None:
        self._last: dict[str, Any] | None = None
        self._text = ""

    def of(self, condition: dict[str, Any]) -> str:
        if condition is not self._last:
            self._last, self._text = condition, f',"{CONDITION}":{_json(condition)}}}\n'
        return self._text


def describe(params: SimulateParams) -> dict[str, Any]:
    """The condition as every line states it: all that may change a number, but for the policies of scripted agents."""
    condition = {
        "group": group_name(params),
        "scenario": params.scenario,
        "experiment": params.experiment,
        "names": params.names,
        "months": params.months,
        "capacity": params.capacity,
        "start": params.start,
        "growth": params.growth,
        "collapse_below": params.collapse_below,
        "newcomer_month": params.newcomer_month if params.joins_late else None,
        "threshold_agents": params.threshold_agents,
        "allocation": params.allocation,
        "universalization": params.universalization,
        "communication": params.communication,
        "report": params.report,
        "max_conversation_steps": params.max_conversation_steps,
        "rules_variant": params.rules_variant,
        "concurrent_harvesting": params.order == "concurrent",
        "models": [policy.model if isinstance(policy, Llm) else None for policy in params.policy_of_each],
    }
    return condition | (params.model_dump(mode="json", include=set(OF_MODELS)) if params.talks else {})


def group_name(params: SimulateParams) -> str:
    """`fishery default | threshold ×4 + fixed 30 | months 6`: scenario, experiment, society, and what else differs from
    the defaults of that experiment. Two conditions that may give different numbers never share a name.
    """
    counts: dict[str, int] = {}
    for policy in params.policy_of_each:
        counts[policy_name(policy)] = counts.get(policy_name(policy), 0) + 1
    society = " + ".join(name if count == 1 else f"{name} ×{count}" for name, count in counts.items())
    parts = [f"{params.scenario} {params.experiment}", society, ", ".join(_departures(params))]
    return " | ".join(part for part in parts if part)


def _departures(params: SimulateParams) -> list[str]:
    """What is set otherwise than the experiment's defaults: `temperature 0.7`, `communication false`."""
    usual = SimulateParams(
        scenario=params.scenario, experiment=params.experiment, agents=params.agents, policies=params.policies
    )
    unsaid = {*IN_NAME, *(() if params.talks else OF_MODELS)}
    ours, theirs = (said.model_dump(mode="json", exclude=unsaid) for said in (params, usual))
    return [
        f"{name} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in ours.items()
        if value != theirs[name]
    ]


def policy_name(policy: AnyPolicy) -> str:
    """A policy in a few characters."""
    said = policy.model_dump(exclude={"type"}, exclude_defaults=True)
    values = [_list_name(value) if isinstance(value, list) else str(value) for value in said.values()]
    return " ".join([policy.type, *values])


def _list_name(values: list[int]) -> str:
    """The first demands of a replay; of a longer one a digest, too, so that no two replays share a name."""
    if len(values) <= SHOWN_DEMANDS:
        return str(values)
    digest = hashlib.blake2b(json.dumps(values).encode(), digest_size=4).hexdigest()
    return f"{str(values[:SHOWN_DEMANDS])[:-1]}, …] #{digest}"


# Reading ------------------------------------------------------------------------------------------------------------

Stock = Annotated[int, Field(ge=0, le=MAX_CAPACITY)]
Units = Annotated[int, Field(ge=0, le=MAX_UNITS)]


class SaidCondition(BaseModel):
    """What of `describe` is needed to measure a run."""

    model_config = ConfigDict(strict=True)

    group: str
    names: list[str] = Field(min_length=1, max_length=MAX_AGENTS)
    months: int = Field(ge=1, le=MAX_MONTHS)
    growth: int = Field(ge=1, le=100)
    collapse_below: int = Field(ge=1, le=MAX_CAPACITY)
    newcomer_month: int | None = Field(ge=1, le=MAX_MONTHS)
    threshold_agents: Literal["current", "official"]
    communication: bool

    def conditions(self) -> Conditions:
        official = self.threshold_agents == "official"
        return Conditions(
            tuple(self.names), self.months, self.growth, self.collapse_below, self.newcomer_month, official
        )


class RunLine(BaseModel):
    """What of a line is read; the metrics in it are computed again."""

    model_config = ConfigDict(strict=True)

    run: int | str
    pool: list[Annotated[list[Stock], Field(min_length=2, max_length=2)]]
    granted: list[list[Units]]
    demanded: list[list[Units]]
    utterances: list[Annotated[int, Field(ge=0, le=10**6)]]
    limit: list[Units | None]
    invalid: bool = False
    condition: SaidCondition


def read_line(record: dict[str, Any], label: str | None, where: str) -> ImportedRun:
    """One line of `runs.jsonl`, parsed. Raises InvalidInput when it isn't as a job wrote it."""
    remedy = "give the runs.jsonl of a govsim job unchanged"
    try:
        line = RunLine.model_validate(record)
    except ValidationError as wrong:
        raise InvalidInput(f"{where}: {what_is_wrong(wrong)}; {remedy}") from None
    conditions = line.condition.conditions()
    misfit = _misfit(line, conditions)
    if misfit:
        raise InvalidInput(f"{where}: {misfit}; {remedy}")
    return ImportedRun(
        str(line.run), label or line.condition.group, conditions, record[CONDITION], line.pool, line.demanded,
        line.granted, line.utterances, line.limit, line.invalid,
    )  # fmt: skip


def what_is_wrong(error: ValidationError) -> str:
    """The first complaint of a validation, in words: where, and what is the matter."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"has no `{where}`" if first["type"] == "missing" else f"`{where}`: {first['msg']}"


def _misfit(line: RunLine, conditions: Conditions) -> str | None:
    """Where a line contradicts itself; None if nowhere."""
    played = len(line.pool)
    columns = (line.granted, line.demanded, line.utterances, line.limit)
    if any(len(column) != played for column in columns) or not 1 <= played <= conditions.months:
        return f"its columns don't all have the same number of months, from 1 to {conditions.months}"
    for month, (before, after) in enumerate(line.pool):
        present = conditions.membership.present(month)
        if not len(line.granted[month]) == len(line.demanded[month]) == present:
            return f"month {month + 1} doesn't have a row of {present} agents"
        if before - after != sum(line.granted[month]):
            return f"in month {month + 1} the stock falls from {before} to {after}, not by what was granted"
        goes_on = month + 1 < played
        if (after < conditions.collapse_below and goes_on) or (
            after >= conditions.collapse_below and not goes_on and played < conditions.months
        ):
            return f"it goes on after its collapse, or ends before it, in month {month + 1}"
    return None
