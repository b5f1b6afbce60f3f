"""`insta.downstream`: what a selection is worth to a model tuned on it."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from shared.jobs.catalog.insta.fields import IndexRef, Name
from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed

Arm = Literal["insta", "random", "all", "bm25", "rrf"]


class DownstreamParams(Params):
    """Selection → tuning → score, with a small encoder–decoder trained from scratch."""

    tasks: Annotated[Ref, Schemes("builtin", "file")] = Field(
        Ref("builtin:tasks"), description="A library whose tasks have instances [{input, output}]."
    )
    index: IndexRef = Field(description="The index of the same library.")
    methods: list[Arm] = Field(
        ["insta", "random", "all"],
        min_length=2,
        max_length=5,
        description="Arms; the first is compared with the others.",
    )
    targets: list[Name] | None = Field(
        None, min_length=1, max_length=100, description="Tasks to be good at. Left out: one per category, drawn."
    )
    k: int = Field(5, ge=1, le=1_000, description="Tasks selected for a target.")
    seeds: int = Field(3, ge=2, le=20, description="Independent repetitions: seed, seed + 1, …")
    steps: int = Field(300, ge=1, le=100_000, description="Tuning steps of every arm, whatever it selected.")
    batch: int = Field(16, ge=1, le=1024, description="Examples per step.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Of AdamW.")
    adapt_examples: int = Field(64, ge=1, le=100_000, description="Examples of the target that adaptation sees.")
    adapt_steps: int = Field(40, ge=0, le=100_000, description="Steps of adaptation to the target.")
    eval_examples: int = Field(128, ge=1, le=100_000, description="Other examples of the target that score.")
    width: int = Field(136, ge=16, le=1024, multiple_of=8, description="Of the model.")
    layers: int = Field(3, ge=1, le=24, description="Of encoder and decoder each.")
    seed: Seed = 42

    @field_validator("methods")
    @classmethod
    def _name_each_once(cls, given: list[Arm]) -> list[Arm]:
        if len(set(given)) < len(given):
            raise ValueError("methods names one twice; name each once")
        return given


class ArmScore(Result):
    """One arm over targets and seeds."""

    method: str = Field(description="The arm.")
    accuracy: float = Field(description="Share of outputs that match exactly, mean over targets and seeds.")
    loss: float = Field(description="Cross-entropy per token of the target's other examples, in nats.")
    same_category: float = Field(description="Share of the selected tasks that are of the target's category.")


class Contrast(Result):
    """The first arm minus another one: paired over targets and seeds, 95 % interval over targets."""

    against: str = Field(description="The other arm.")
    difference: float = Field(description="Mean difference of accuracy.")
    low: float | None = Field(description="Lower end of the t-interval over targets; null for one target.")
    high: float | None = Field(description="Upper end.")
    excludes_zero: bool = Field(description="Whether the interval excludes zero; if not, nothing is claimed.")
    loss_difference: float = Field(description="Mean difference of the loss; negative: the first arm is better.")
    loss_low: float | None = Field(description="Lower end for the loss.")
    loss_high: float | None = Field(description="Upper end for the loss.")


class DownstreamResult(Result):
    """What the selection is worth to a model."""

    arms: list[ArmScore] = Field(description="Every arm.")
    contrasts: list[Contrast] = Field(description="The first arm against each other.")
    targets: list[str] = Field(description="The targets.")
    seeds: int = Field(description="Repetitions.")
    parameters: int = Field(description="Weights of the model.")
    runs: int = Field(description="Trainings from scratch.")
