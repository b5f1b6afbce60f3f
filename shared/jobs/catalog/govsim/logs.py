"""What is made of logs: `govsim.analyse` measures them, `govsim.train_clone` learns from them."""

from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from shared.jobs.catalog.govsim.measures import Metrics, RunOutcome
from shared.jobs.catalog.govsim.policies import MAX_CAPACITY, MAX_MONTHS, Scenario
from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed, Text

Source = Annotated[Ref, Schemes("file", "job")]


class TrainCloneParams(Params):
    """Logged decisions to train a small model on: it then takes what such agents take, and knows nothing else."""

    replies: Source = Field(
        description="JSONL {run, model, month, agent, pool, memories, reply, wanted}, one harvest decision a line."
    )
    models: list[Annotated[Text, Field(min_length=1, max_length=200)]] | None = Field(
        None, min_length=1, max_length=100, description="Learn from runs of these models only. Left out: from all."
    )
    scenario: Scenario = Field("fishery", description="Whose words the clone is asked in.")
    steps: int = Field(400, ge=1, le=100_000, description="Training steps.")
    batch_size: int = Field(
        32, ge=1, le=4096, description="Decisions a step; half of them with universalization, where there are both."
    )
    learning_rate: float = Field(3e-3, gt=0, le=1, description="Of AdamW.")
    layers: int = Field(2, ge=1, le=24, description="Of the decoder.")
    width: int = Field(64, ge=8, le=1024, multiple_of=8, description="Of the decoder; heads are 16 wide, or 8.")
    seed: Seed = 42


class TrainCloneResult(Result):
    """What was learnt from. The clone is `model.tar`: use it as the model `job:<id>/model.tar`."""

    decisions: int = Field(description="Decisions learnt from.")
    universalized_decisions: int = Field(description="Those made with the universalization sentence in memory.")
    runs: int = Field(description="Runs they come from.")
    left_out: int = Field(description="Decisions without a reply, of mixed societies or of other models.")
    parameters: int = Field(description="Of the clone.")
    loss: float = Field(description="Mean cross-entropy per token over the last 50 steps, nats.")


class AnalyseParams(Params):
    """Logs of finished runs to read into the paper's metrics and figures."""

    sources: list[Source] = Field(
        min_length=1,
        max_length=100,
        description="Each a log_env.json array, JSONL with a run a line, or a govsim.simulate job.",
    )
    labels: list[Annotated[Text, Field(min_length=1, max_length=200)]] | None = Field(
        None,
        description="Group name for each source. Left out: a run's condition (scenario, experiment, models or policies,"
        " and what else differs from the experiment's defaults).",
    )
    replies: Source | None = Field(
        None, description="JSONL {run, month, agent, reply} with what the models said: finds runs that failed silently."
    )
    max_parse_failure_rate: float = Field(
        0.2, ge=0, le=1, description="Share of unreadable replies above which a run is invalid and enters no mean."
    )
    subskills: list[Source] | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="govsim.subskills jobs, or their scores.jsonl: adds their bars, and accuracy against the survival "
        "of groups whose agents all have the model.",
    )
    months: int = Field(12, ge=1, le=MAX_MONTHS, description="T for sources that don't state it.")
    growth: int = Field(2, ge=1, le=100, description="g for sources that don't state it.")
    collapse_below: int = Field(5, ge=1, le=MAX_CAPACITY, description="C for sources that don't state it, units.")

    @field_validator("labels")
    @classmethod
    def _label_each_source(cls, labels: list[str] | None, info: ValidationInfo) -> list[str] | None:
        sources = info.data.get("sources")
        if labels is not None and sources is not None and len(labels) != len(sources):
            raise ValueError(f"{len(labels)} labels for {len(sources)} sources; give one per source or none at all")
        return labels


class GroupMetrics(Metrics):
    """The metrics of one group of runs."""

    group: str = Field(description="The condition: experiment and models, or the source's label.")
    runs: int = Field(description="Runs that enter the means.")
    invalid_runs: int = Field(description="Runs left out of the means: too many replies were unreadable.")


class AnalysedRun(RunOutcome):
    """One imported run with its own metrics."""

    run: str = Field(description="The run's name in its source.")
    group: str = Field(description="The group it belongs to.")
    invalid: bool = Field(description="Whether it is left out of its group's means.")
    parse_failure_rate: float | None = Field(description="Share of unreadable replies; null without replies.")


class RejectedRun(Result):
    """A run that can't be counted."""

    source: str = Field(description="The reference it came from.")
    run: str = Field(description="Its name there.")
    reason: str = Field(description="Why, and what would be accepted.")


class AnalyseResult(Result):
    """Groups, runs and rejections, as many as fit; all of them in groups.jsonl, runs.jsonl and rejected.jsonl."""

    groups: list[GroupMetrics] = Field(description="In order of first appearance.")
    runs: list[AnalysedRun] = Field(description="The first runs in order, at most 40.")
    rejected: list[RejectedRun] = Field(description="Interrupted runs, in order.")

    @model_validator(mode="after")
    def _name_groups_once(self) -> Self:
        if len({group.group for group in self.groups}) < len(self.groups):
            raise ValueError("a group appears twice")
        return self
