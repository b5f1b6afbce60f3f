"""How the agents of a society name their demands, and what every kind of GOVSIM counts in."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from shared.jobs.references import Ref, Schemes

PERSONAS = ("John", "Kate", "Jack", "Emma", "Luke")  # the paper's five
MAX_CAPACITY = 10**6
MAX_DEMAND = 10**9  # what an agent may ask for; demands above the stock occur in real logs
MAX_AGENTS, MAX_MONTHS, MAX_RUNS = 100, 1_000, 100_000
MAX_TALKING_RUNS = 10_000  # of societies with language models: 6.7 million calls over twelve months
NEWCOMER_MONTHS = 15  # T of the newcomer experiment

Scenario = Literal["fishery", "pasture", "pollution"]
Experiment = Literal[
    "default", "universalization", "no_communication", "newcomer", "newcomer_universalization", "paraphrase"
]
ParserName = Literal["strict", "official"]
ChatRef = Annotated[Ref, Schemes("endpoint", "hub", "file", "job", "builtin")]
EncoderRef = Annotated[Ref, Schemes("builtin", "hub", "file", "job")]
RETRIEVED = {"fishery": 10, "pasture": 10, "pollution": 14}  # memories an agent harvests with
Units = Annotated[int, Field(ge=0, le=MAX_DEMAND)]


class Policy(BaseModel):
    """How a scripted agent names its demand w each month; thr is the month's sustainability threshold per agent."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Threshold(Policy):
    """Always takes the sustainable share: w = thr."""

    type: Literal["threshold"] = Field("threshold", description="The policy.")


class Fixed(Policy):
    """Always asks for the same: w = quantity."""

    type: Literal["fixed"] = Field(description="The policy.")
    quantity: Units = Field(description="Units per month, whatever the stock; q.")


class Greedy(Policy):
    """Asks for everything it sees, w = R; with a factor k for w = floor(k · thr)."""

    type: Literal["greedy"] = Field(description="The policy.")
    factor: float | None = Field(
        None, ge=0, le=10**6, description="k, multiples of the threshold per agent; null: the whole stock."
    )


class Random(Policy):
    """Asks for a whole number drawn uniformly from low..high, both included."""

    type: Literal["random"] = Field(description="The policy.")
    low: Units = Field(description="Smallest demand, in `unit`s.")
    high: Units = Field(description="Largest demand, in `unit`s; at least low.")
    unit: Literal["resource", "threshold"] = Field(
        "resource", description="What low and high count: units of the resource, or multiples of the month's thr."
    )

    @field_validator("high")
    @classmethod
    def _is_at_least_low(cls, high: int, info: ValidationInfo) -> int:
        low = info.data.get("low")
        if low is not None and high < low:
            raise ValueError(f"high {high} is below low {low}; give high of at least {low}")
        return high


class TitForTat(Policy):
    """Takes thr until somebody else was granted more than last month's thr; then w = the largest of those grants."""

    type: Literal["tit_for_tat"] = Field(description="The policy.")


class Replay(Policy):
    """Asks for what a log holds, month by month; after its end the last demand repeats."""

    type: Literal["replay"] = Field(description="The policy.")
    demands: list[Units] = Field(
        min_length=1, max_length=MAX_MONTHS, description="Units, one per month of the simulation; the last repeats."
    )


class Llm(Policy):
    """Asks a language model, with the agent's memories; the agent talks, remembers and reflects."""

    type: Literal["llm"] = Field(description="The policy.")
    model: ChatRef = Field(
        description="endpoint:<name>/<model> of the operator's file, or a local model: hub:, job:, file:, builtin:."
    )
    parser: ParserName | None = Field(
        None, description="How this agent's replies are read; null: as the job's `parser` says."
    )


AnyPolicy = Annotated[
    Threshold | Fixed | Greedy | Random | TitForTat | Replay | Llm,
    Field(discriminator="type", description="How an agent names its demand w each month: a rule, or a language model."),
]


def _one_or_each(given: Any) -> str:
    return "each" if isinstance(given, list) else "one"


Policies = Annotated[
    Annotated[AnyPolicy, Tag("one")]
    | Annotated[list[AnyPolicy], Field(min_length=1, max_length=MAX_AGENTS), Tag("each")],
    Discriminator(_one_or_each),
]
"""One policy for all agents, or a list with one per agent."""
