"""`runs.jsonl`: one line per simulated run, self-contained, so that `govsim.analyse` needs nothing else.

A line is a `RunOutcome` with the run's number before it and, after it, its monthly Gini, utterances and agreed limits
and the condition it was made under. Rows of a month hold the agents present.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from shared.jobs.catalog.govsim import AnyPolicy, SimulateParams
from workers.govsim.trajectories import Conditions, RunMetrics, Trajectories, monthly_gini

CONDITION = "condition"  # the key of a line under which the condition stands


def outcomes(batch: Trajectories, measured: RunMetrics, conditions: Conditions) -> Iterator[dict[str, Any]]:
    """The runs of a batch in order, each as the fields of `RunOutcome`."""
    gains = batch.granted.sum(axis=1).tolist()
    pools = _pairs(batch)
    granted, demanded = batch.granted.tolist(), batch.demanded.tolist()
    columns = [_plain(values) for values in measured]
    newcomer_month = conditions.newcomer_month or 0
    for row, played in enumerate(batch.played.tolist()):
        scalars = {name: column[row] for name, column in zip(RunMetrics._fields, columns, strict=True)}
        grants, wanted = granted[row][:played], demanded[row][:played]
        for month in range(min(newcomer_month, played)):
            del grants[month][-1], wanted[month][-1]
        yield {**scalars, "gains": gains[row], "pool": pools[row][:played], "granted": grants, "demanded": wanted}


def lines(
    batch: Trajectories,
    measured: RunMetrics,
    conditions: Conditions,
    heads: list[dict[str, Any]],
    said: list[dict[str, Any]],
) -> Iterator[bytes]:
    """The lines of `runs.jsonl` for a batch, in order: each opens with its head and ends with the condition it states."""
    gini = [_plain(row) for row in monthly_gini(batch, conditions)]
    utterances, limits = batch.utterances.tolist(), batch.limit.tolist()
    tails = _Tails()
    for row, outcome in enumerate(outcomes(batch, measured, conditions)):
        played = len(outcome["pool"])
        line = {
            **heads[row],
            **outcome,
            "monthly_gini": gini[row][:played],
            "utterances": utterances[row][:played],
            "limit": [None if limit < 0 else limit for limit in limits[row][:played]],
        }
        yield (_json(line)[:-1] + tails.of(said[row])).encode()


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
    """The condition as every line states it."""
    return {
        "group": group_name(params),
        "scenario": params.scenario,
        "experiment": params.experiment,
        "names": params.names,
        "months": params.months,
        "growth": params.growth,
        "collapse_below": params.collapse_below,
        "newcomer_month": params.newcomer_month if params.joins_late else None,
        "threshold_agents": params.threshold_agents,
        "communication": params.communication,
        "report": params.report,
        "max_conversation_steps": params.max_conversation_steps,
        "concurrent_harvesting": params.order == "concurrent",
    }


def group_name(params: SimulateParams) -> str:
    """`fishery default | threshold ×4 + fixed 30`: scenario, experiment and society."""
    counts: dict[str, int] = {}
    for policy in params.policy_of_each:
        counts[policy_name(policy)] = counts.get(policy_name(policy), 0) + 1
    society = " + ".join(name if count == 1 else f"{name} ×{count}" for name, count in counts.items())
    return f"{params.scenario} {params.experiment} | {society}"


def policy_name(policy: AnyPolicy) -> str:
    """A policy in a few characters."""
    said = policy.model_dump(exclude={"type"}, exclude_defaults=True)
    values = [f"{value[:6]}" if isinstance(value, list) else str(value) for value in said.values()]
    return " ".join([policy.type, *values])


def _pairs(batch: Trajectories) -> list[list[list[int]]]:
    """[before, after] per month and run."""
    befores, afters = batch.before.tolist(), batch.after.tolist()
    return [[list(pair) for pair in zip(*rows, strict=True)] for rows in zip(befores, afters, strict=True)]


def _plain(values: Any) -> list[Any]:
    """An array as JSON's values: NaN is null."""
    listed: list[Any] = values.tolist()
    return [None if isinstance(value, float) and math.isnan(value) else value for value in listed]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


