"""`govsim.subskills`: the paper's questions to one model."""

from typing import Literal

from pydantic import Field, field_validator

from shared.jobs.catalog.govsim.measures import ModelUse
from shared.jobs.catalog.govsim.policies import ChatRef, ParserName, Scenario
from shared.jobs.spec import Params, Result, Seed

Subskill = Literal[
    "dynamics", "sustainable_action", "universalized_action", "assumed_threshold", "believed_threshold",
    "dynamics_math", "assumed_threshold_math", "believed_threshold_math",
]  # fmt: skip
FIVE_TESTS: tuple[Subskill, ...] = (
    "dynamics", "sustainable_action", "universalized_action", "assumed_threshold", "believed_threshold",
)  # fmt: skip


class SubskillsParams(Params):
    """The paper's questions on what a sustainable society takes, asked of one model."""

    model: ChatRef = Field(
        description="endpoint:<name>/<model> of the operator's file, or a local model: hub:, job:, file:, builtin:."
    )
    scenario: Scenario = Field("fishery", description="Whose words the questions use.")
    tests: list[Subskill] = Field(
        list(FIVE_TESTS),
        min_length=1,
        max_length=8,
        description="What is asked: the paper's five tests; those ending in _math ask the same as bare mathematics.",
    )
    items: int = Field(
        150, ge=1, le=10_000, description="Questions per test, each with its own stock N from 10 to 100."
    )
    official_wording: bool = Field(
        False,
        description="Ask the pollution's dynamics for the polluted share, as officially, though the unpolluted one is "
        "counted as right; changes no other question.",
    )
    temperature: float = Field(0.0, ge=0, le=10, description="Sampling temperature; 0: greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus of the sampling.")
    max_tokens: int = Field(8000, ge=1, le=10**6, description="Longest reply, tokens.")
    parser: ParserName = Field(
        "strict", description="How replies are read: carefully, or exactly as the official code does."
    )
    seed: Seed = 42

    @field_validator("tests")
    @classmethod
    def _ask_each_test_once(cls, tests: list[Subskill]) -> list[Subskill]:
        if len(set(tests)) < len(tests):
            raise ValueError("a test is named twice; name each once")
        return tests


class SubskillScore(Result):
    """How one test went."""

    test: Subskill = Field(description="The test.")
    items: int = Field(description="Questions asked.")
    accuracy: float = Field(description="Share of right answers.")
    std: float = Field(description="Population standard deviation of right (1) and wrong (0).")
    ci95_low: float = Field(description="Lower end of the 95 % Wald interval, at least 0.")
    ci95_high: float = Field(description="Its upper end, at most 1.")
    unreadable: int = Field(description="Answers without a number; they count as wrong.")


class SubskillsResult(ModelUse):
    """The scores of the tests in the order asked; every question and answer is in `items.jsonl`."""

    model: str = Field(description="The model asked.")
    scenario: Scenario = Field(description="Whose words the questions used.")
    scores: list[SubskillScore] = Field(description="One per test.")
