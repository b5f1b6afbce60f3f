"""Sub-skill scores beside the societies of the same models: who can reckon, and whose lake lasts.

A group of runs goes with a model's scores when all its agents have that model and the scenario is the same. Imported
logs name models plainly, our jobs by reference: `gpt-4o` and `endpoint:lab/gpt-4o` are the same model.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from shared.jobs.catalog.govsim import AnalyseParams, SubskillScore
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from workers.govsim.drawing import Figure
from workers.govsim.figures import Condition
from workers.govsim.links import Key, link
from workers.govsim.records import what_is_wrong
from workers.govsim.subskill_figures import Point, Scored, accuracy_against_survival, subskill_bars

SCORES = "scores.jsonl"


class Examined(NamedTuple):
    """One model's score in one test."""

    model: str
    scenario: str
    score: SubskillScore
    keys: list[Key]  # of its prompts, wrong answers first


def read_scores(params: AnalyseParams, ctx: JobContext) -> list[Examined]:
    """The scores of all sub-skill jobs named. Raises InvalidInput."""
    return [examined for ref in params.subskills or () for examined in _read(ref, ctx)]


def examined_figures(examined: Sequence[Examined], conditions: Sequence[Condition]) -> Iterator[tuple[str, Figure]]:
    """Bars by model, and accuracy against survival, by artifact name."""
    if not examined:
        return
    bars: dict[str, list[Scored]] = {}
    for one in examined:
        bars.setdefault(f"{one.model}, {one.scenario}", []).append(Scored(one.score, one.keys))
    yield "subskills.plotly.json", subskill_bars(bars)
    yield "subskills_survival.plotly.json", accuracy_against_survival(list(_points(examined, conditions)))


def _points(examined: Sequence[Examined], conditions: Sequence[Condition]) -> Iterator[Point]:
    for one in examined:
        for condition in conditions:
            if _belong_together(one, condition):
                months = condition.tally.summaries()["survival_time"].mean
                if months is not None:
                    leads_to = link(condition.name, condition.links, keys=one.keys)
                    yield Point(condition.name, one.score.test, one.score.accuracy, months, leads_to)


def _belong_together(one: Examined, condition: Condition) -> bool:
    said: dict[str, Any] = condition.links[0].run.condition if condition.links else {}
    models = {_plain(model) for model in said.get("models") or ()}
    return models == {_plain(one.model)} and said.get("scenario") in (None, one.scenario)


def _plain(model: str | None) -> str | None:
    """A model's own name, without how it is reached."""
    return model.partition("/")[2] if model is not None and model.startswith("endpoint:") else model


def _read(ref: Ref, ctx: JobContext) -> Iterator[Examined]:
    path = ctx.input(Ref(f"{ref}/{SCORES}") if ref.scheme == "job" and ref.artifact is None else ref)
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"{ref}, line {number}"
        try:
            record = json.loads(line)
            score = {name: record.get(name) for name in SubskillScore.model_fields}
            keys: list[Key] = [{"source": str(ref), "key": str(key)} for key in record.get("keys", ())]
            yield Examined(str(record["model"]), str(record["scenario"]), SubskillScore.model_validate(score), keys)
        except ValidationError as wrong:
            raise InvalidInput(
                f"{where}: {what_is_wrong(wrong)}; give the {SCORES} of a govsim.subskills job"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InvalidInput(f"{where}: is no sub-skill score; give the {SCORES} of a govsim.subskills job") from None
