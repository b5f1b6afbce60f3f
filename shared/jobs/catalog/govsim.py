"""The kinds of GOVSIM, the governance of the commons simulation (arXiv 2404.16698).

`govsim.simulate` runs many simulations of one condition; `govsim.analyse` reads run logs, ours or those of published
societies, into the paper's metrics and figures; `govsim.subskills` asks a model the paper's test questions;
`govsim.train_clone` trains a small model on logged decisions. Defaults are the paper's and its code's.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import JobSpec, Params, Result, Seed, Text

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


ScriptedPolicy = Threshold | Fixed | Greedy | Random | TitForTat | Replay
AnyPolicy = Annotated[
    Threshold | Fixed | Greedy | Random | TitForTat | Replay | Llm,
    Field(discriminator="type", description="How an agent names its demand w each month: a rule, or a language model."),
]


@dataclass(frozen=True)
class OneOrEach:
    """A list field that also takes one bare item."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        array = handler(schema)
        return {"anyOf": [array["items"], array]}


Policies = Annotated[
    list[AnyPolicy],
    Field(min_length=1, max_length=MAX_AGENTS),
    BeforeValidator(lambda given: given if isinstance(given, list) else [given]),
    OneOrEach(),
]


TopK = Annotated[int, Field(ge=1, le=1_000)]
Weight = Annotated[float, Field(ge=0, le=1_000)]


class SimulateParams(Params):
    """One condition: a society, its commons, and how many independent runs of it to make."""

    scenario: Scenario = Field("fishery", description="Words only: the three scenarios are the same mathematics.")
    experiment: Experiment = Field(
        "default",
        description="The paper's condition. Left out, it follows from the flags universalization and communication.",
    )
    agents: int = Field(len(PERSONAS), ge=1, le=MAX_AGENTS, description="Agents, a newcomer included; n.")
    names: list[Annotated[Text, Field(min_length=1, max_length=60)]] = Field(
        list(PERSONAS), description="One name per agent. Left out: the paper's five, then Person 6, Person 7, …"
    )
    months: int = Field(12, ge=1, le=MAX_MONTHS, description="Planned months; T. Left out with a newcomer: 15.")
    capacity: int = Field(100, ge=1, le=MAX_CAPACITY, description="Units the resource can hold; K.")
    start: int = Field(100, ge=1, le=MAX_CAPACITY, description="Units at the start, R(0). Left out: the capacity.")
    growth: int = Field(2, ge=1, le=100, description="What is left multiplies by this at month's end; g.")
    collapse_below: int = Field(
        5, ge=1, le=MAX_CAPACITY, description="The resource is lost when fewer units are left after a harvest; C."
    )
    allocation: Literal["stochastic", "proportional"] = Field(
        "stochastic", description="How too large demands are granted: unit by unit by lot (the paper), or by share."
    )
    order: Literal["concurrent", "sequential"] = Field(
        "concurrent", description="All demands at once (the paper), or one agent after another in a drawn order."
    )
    universalization: bool = Field(False, description="Agents are told what happens if everyone takes more than thr.")
    communication: bool = Field(True, description="Report and group discussion after each harvest.")
    report: Literal["moderator", "individual", "none"] = Field(
        "moderator", description="Who reports the grants to the group; individual: each agent its own, fishery only."
    )
    newcomer_month: int = Field(
        3, ge=1, le=MAX_MONTHS, description="Month (0-based) in which the last agent joins; experiment newcomer only."
    )
    threshold_agents: Literal["current", "official"] = Field(
        "current",
        description="Whom thr is shared among: the agents present, or as in the official code (the literal 10 in the "
        "first month, then the starting number of agents for ever).",
    )
    max_conversation_steps: int = Field(
        10, ge=2, le=1_000, description="Longest discussion of a month in utterances, the report included."
    )
    policies: Policies = Field([Threshold()], description="One policy for all agents, or a list with one per agent.")
    framework_model: ChatRef | None = Field(
        None,
        description="Who summarises a discussion and reads its agreed limit. Left out: the first agent's with a model.",
    )
    rules_variant: Literal[1, 2, 3] | None = Field(
        None, description="Paraphrase of the fishery's rules; experiment paraphrase only (left out there: 1)."
    )
    top_k_harvest: TopK = Field(10, description="Memories an agent harvests with. Left out: 10, in the pollution 14.")
    top_k_utterance: TopK = Field(5, description="Memories per focal point that an agent speaks with.")
    top_k_reflect: TopK = Field(10, description="Memories an agent reflects on.")
    recency_weight: Weight = Field(0.5, description="Weight of recency in a memory's score.")
    importance_weight: Weight = Field(3.0, description="Weight of importance in a memory's score.")
    relevance_weight: Weight = Field(2.0, description="Weight of the cosine between memory and focal point.")
    recency_decay: float = Field(0.99, gt=0, le=1, description="Recency of the i-th memory is this to the power i.")
    recency_order: Literal["oldest_first", "newest_first"] = Field(
        "oldest_first", description="Where i counts from: the oldest memory as in the official code, or the newest."
    )
    thought_days: int = Field(63, ge=1, le=36_500, description="Days until a thought or a chat is forgotten.")
    memory_encoder: EncoderRef = Field(
        Ref("builtin:minilm"), description="The sentence encoder that memories and focal points are compared with."
    )
    rate_chats: bool = Field(
        True, description="Rate the importance of summaries too, as officially; they are never retrieved."
    )
    temperature: float = Field(0.0, ge=0, le=10, description="Sampling temperature; 0: greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus of the sampling.")
    max_tokens: int = Field(8000, ge=1, le=10**6, description="Longest reply, tokens.")
    max_tokens_rating: int = Field(1000, ge=1, le=10**6, description="Longest reply that rates a memory, tokens.")
    parser: ParserName = Field(
        "strict", description="How replies are read: carefully, or exactly as the official code does."
    )
    max_parse_failure_rate: float = Field(
        0.2, ge=0, le=1, description="Share of unreadable replies above which a run is invalid and enters no mean."
    )
    runs: int = Field(5, ge=1, le=MAX_RUNS, description="Independent simulations.")
    seed: Seed = 42

    @model_validator(mode="before")
    @classmethod
    def _fill_in_what_follows(cls, given: Any) -> Any:
        """Defaults that depend on other fields, so that the stored Params say everything in full."""
        if not isinstance(given, dict):
            return given
        params = {**given, "experiment": _experiment_of(given)}
        params.setdefault("universalization", params["experiment"] in ("universalization", "newcomer_universalization"))
        params.setdefault("communication", params["experiment"] != "no_communication")
        if params["experiment"] in NEWCOMERS:
            params.setdefault("months", NEWCOMER_MONTHS)
        if params["experiment"] == "paraphrase":
            params.setdefault("rules_variant", 1)
        if isinstance(scenario := params.get("scenario", "fishery"), str) and scenario in RETRIEVED:
            params.setdefault("top_k_harvest", RETRIEVED[scenario])
        if (model := _first_model(params.get("policies"))) is not None:
            params.setdefault("framework_model", model)
        if isinstance(capacity := params.get("capacity"), int) and 1 <= capacity <= MAX_CAPACITY:
            params.setdefault("start", capacity)
        if isinstance(agents := params.get("agents"), int) and 1 <= agents <= MAX_AGENTS:
            params.setdefault("names", default_names(agents))
        return params

    @field_validator("agents")
    @classmethod
    def _leave_somebody_for_the_newcomer_to_join(cls, agents: int, info: ValidationInfo) -> int:
        if (experiment := info.data.get("experiment")) in NEWCOMERS and agents < 2:
            raise ValueError(f"experiment {experiment} needs at least 2 agents: the last one joins the others")
        return agents

    @field_validator("names")
    @classmethod
    def _name_each_agent_once(cls, names: list[str], info: ValidationInfo) -> list[str]:
        agents = info.data.get("agents")
        if agents is not None and len(names) != agents:
            raise ValueError(f"{len(names)} names for {agents} agents; give one per agent or leave names out")
        if len(set(names)) < len(names):
            raise ValueError("two agents have the same name; names tell agents apart in logs, so make each different")
        return names

    @field_validator("start")
    @classmethod
    def _fit_into_the_capacity(cls, start: int, info: ValidationInfo) -> int:
        capacity = info.data.get("capacity")
        if capacity is not None and start > capacity:
            raise ValueError(f"start {start} is above capacity {capacity}; lower start or raise capacity")
        return start

    @field_validator("collapse_below")
    @classmethod
    def _start_alive(cls, collapse_below: int, info: ValidationInfo) -> int:
        start = info.data.get("start")
        if start is not None and collapse_below > start:
            raise ValueError(
                f"collapse_below {collapse_below} is above start {start}: the resource would be lost before the first "
                f"month; give at most {start}"
            )
        return collapse_below

    @field_validator("universalization", "communication")
    @classmethod
    def _agree_with_the_experiment(cls, flag: bool, info: ValidationInfo) -> bool:
        name, experiment = str(info.field_name), info.data.get("experiment")
        fixed = FIXED_FLAGS.get(str(experiment), {}).get(name, flag)
        if flag != fixed:
            raise ValueError(
                f"{name} {str(flag).lower()} contradicts experiment {experiment}; leave {name} out or choose another "
                "experiment"
            )
        return flag

    @field_validator("report")
    @classmethod
    def _report_individually_in_the_fishery_only(cls, report: str, info: ValidationInfo) -> str:
        if report == "individual" and info.data.get("scenario") not in (None, "fishery"):
            raise ValueError("report individual exists in the fishery only; choose moderator or none")
        return report

    @field_validator("newcomer_month")
    @classmethod
    def _join_before_the_end(cls, newcomer_month: int, info: ValidationInfo) -> int:
        months, experiment = info.data.get("months"), info.data.get("experiment")
        if experiment in NEWCOMERS and months is not None and newcomer_month >= months:
            raise ValueError(
                f"newcomer_month {newcomer_month} is after the last month; with {months} months give 1 to {months - 1}"
            )
        if experiment is not None and experiment not in NEWCOMERS and newcomer_month != 3:
            raise ValueError(
                f"newcomer_month {newcomer_month} without a newcomer; leave it out or choose experiment newcomer"
            )
        return newcomer_month

    @field_validator("policies")
    @classmethod
    def _give_one_policy_or_one_per_agent(cls, policies: list[AnyPolicy], info: ValidationInfo) -> list[AnyPolicy]:
        agents = info.data.get("agents")
        if agents is not None and len(policies) not in (1, agents):
            raise ValueError(f"{len(policies)} policies for {agents} agents; give one for all or a list of {agents}")
        return policies

    @field_validator("framework_model")
    @classmethod
    def _serve_agents_with_models(cls, model: Ref | None, info: ValidationInfo) -> Ref | None:
        policies = info.data.get("policies")
        if model is not None and policies is not None and not any(isinstance(policy, Llm) for policy in policies):
            raise ValueError(
                "framework_model without an agent that uses a model; leave it out or give an agent the policy llm"
            )
        return model

    @field_validator("rules_variant")
    @classmethod
    def _paraphrase_the_fishery_only(cls, variant: int | None, info: ValidationInfo) -> int | None:
        experiment, scenario = info.data.get("experiment"), info.data.get("scenario")
        if variant is not None and experiment not in (None, "paraphrase"):
            raise ValueError(
                f"rules_variant {variant} contradicts experiment {experiment}; leave it out or choose paraphrase"
            )
        if experiment == "paraphrase" and variant is None:
            raise ValueError("rules_variant null contradicts experiment paraphrase; give 1, 2 or 3, or leave it out")
        if variant is not None and scenario not in (None, "fishery"):
            raise ValueError("paraphrases of the rules exist for the fishery only; choose scenario fishery")
        return variant

    @model_validator(mode="after")
    def _paraphrase_for_readers(self) -> Self:
        if self.experiment == "paraphrase" and not self.talks:
            raise ValueError("experiment paraphrase needs an agent that reads the rules; give one the policy llm")
        return self

    @model_validator(mode="after")
    def _keep_talking_societies_countable(self) -> Self:
        if self.talks and self.runs > MAX_TALKING_RUNS:
            raise ValueError(
                f"runs {self.runs} of societies with language models; give at most {MAX_TALKING_RUNS} a job and submit "
                "more jobs with other seeds"
            )
        return self

    @property
    def joins_late(self) -> bool:
        """Whether the last agent is a newcomer."""
        return self.experiment in NEWCOMERS

    @property
    def talks(self) -> bool:
        """Whether some agent has a language model; without one nothing is asked and nothing remembered."""
        return any(isinstance(policy, Llm) for policy in self.policies)

    @property
    def policy_of_each(self) -> list[AnyPolicy]:
        """One policy per agent."""
        return self.policies * self.agents if len(self.policies) == 1 else self.policies


NEWCOMERS = ("newcomer", "newcomer_universalization")
FIXED_FLAGS: dict[str, dict[str, bool]] = {
    "default": {"universalization": False, "communication": True},
    "universalization": {"universalization": True},
    "no_communication": {"communication": False},
    "newcomer_universalization": {"universalization": True},
    "paraphrase": {"universalization": False, "communication": True},
}
"""What an experiment says of the flags; the others are free."""


def _experiment_of(given: dict[str, Any]) -> Any:
    """The experiment's one name: what was given, or what the flags say."""
    named = given.get("experiment")
    if named is not None:
        adds = named == "newcomer" and given.get("universalization") is True
        return "newcomer_universalization" if adds else named
    if given.get("universalization") is True:
        return "universalization"
    return "no_communication" if given.get("communication") is False else "default"


def _first_model(policies: Any) -> Any:
    """The model of the first agent that has one, before validation; None if there is none."""
    each = policies if isinstance(policies, list) else [policies]
    models = [_model_of(policy) for policy in each]
    return next((model for model in models if model is not None), None)


def _model_of(policy: Any) -> Any:
    if isinstance(policy, Llm):
        return policy.model
    return policy.get("model") if isinstance(policy, dict) and policy.get("type") == "llm" else None


def default_names(agents: int) -> list[str]:
    """The paper's five names, then Person 6, Person 7, …"""
    return [*PERSONAS, *(f"Person {i}" for i in range(len(PERSONAS) + 1, agents + 1))][:agents]


class Statistic(Result):
    """One metric over the runs in which it is defined; every number is null where it isn't."""

    mean: float | None = Field(description="Mean over runs.")
    std: float | None = Field(description="Sample standard deviation (divides by runs − 1); null for one run.")
    std_population: float | None = Field(description="Population standard deviation; null for no run.")
    ci95: float | None = Field(description="Half-width of the 95 % t-interval of the mean; null for one run.")


class Metrics(Result):
    """The paper's metrics over the runs of one condition."""

    survival_time: Statistic = Field(
        description="m, months: the first month in which fewer than C units are left after the harvest; T if none is."
    )
    survival_rate: Statistic = Field(description="q, share of runs in which the resource never falls below C.")
    gain: Statistic = Field(description="Units per agent over the run: mean over agents of R_i.")
    efficiency: Statistic = Field(description="u = 1 − max(0, T·f(0) − ΣR_i) / (T·f(0)), 0 to 1.")
    equality: Statistic = Field(description="e = 1 − Gini of the gains R_i, 1/n to 1; undefined if nothing was taken.")
    over_usage: Statistic = Field(description="o, share of harvest actions whose grant exceeds the month's thr.")
    over_usage_demanded: Statistic = Field(description="Share of harvest actions whose demand exceeds the thr.")
    over_usage_published: Statistic = Field(
        description="As over_usage, but over harvest actions plus agents' utterances, as the published figures count."
    )


class RunOutcome(Result):
    """One run, month by month. The rows of a month hold the agents present, a newcomer last."""

    survival_time: int = Field(description="m, months.")
    survived: bool = Field(description="Whether the resource never fell below C.")
    gain: float = Field(description="Units per agent.")
    efficiency: float | None = Field(description="u, 0 to 1; null where T·f(0) is 0.")
    equality: float | None = Field(description="e, 1/n to 1; null when nothing was taken.")
    over_usage: float | None = Field(description="Share of harvest actions above thr, by grant.")
    over_usage_demanded: float | None = Field(description="Share of harvest actions above thr, by demand.")
    over_usage_published: float | None = Field(description="Share above thr of harvest actions and utterances.")
    gains: list[int] = Field(description="R_i, units per agent over the whole run.")
    pool: list[list[int]] = Field(description="[before, after] the harvest, units, one pair per month.")
    granted: list[list[int]] = Field(description="Units granted, one row per month.")
    demanded: list[list[int]] = Field(description="Units asked for, w, one row per month.")


class SimulatedRun(RunOutcome):
    """One simulated run; the last five fields tell of its language models, if any."""

    invalid: bool = Field(False, description="Whether too many replies were unreadable: it is left out of the means.")
    fallback_rate: float | None = Field(
        None, description="Share of replies that could not be read and were replaced by a default; null without any."
    )
    model_calls: int = Field(0, description="Replies asked of models, repairs included.")
    tokens_in: int = Field(0, description="Prompt tokens.")
    tokens_out: int = Field(0, description="Reply tokens.")


class ModelUse(Result):
    """What a job asked of language models, over all its runs."""

    model_calls: int = Field(0, description="Replies asked of models, repairs included.")
    tokens_in: int = Field(0, description="Prompt tokens.")
    tokens_out: int = Field(0, description="Reply tokens.")


class SimulateResult(Metrics, ModelUse):
    """The metrics of the condition and as many of its first 40 runs as fit; all runs are in `runs.jsonl`."""

    invalid_runs: int = Field(0, description="Runs left out of the means: too many replies were unreadable.")
    fallback_rate: float | None = Field(
        None, description="Share of replies, over all runs, that could not be read; null where nothing was asked."
    )
    runs: list[SimulatedRun] = Field(description="The first runs in order.")


Source = Annotated[Ref, Schemes("file", "job")]

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
        None, description="Group name for each source. Left out: a run's experiment and models or policies."
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


KINDS = [
    JobSpec(
        "govsim.simulate",
        params=SimulateParams,
        result=SimulateResult,
        pool="sim",
        summary="Run societies of language models or scripted agents on a shared resource: does it last?",
        progress_unit="months",
        checkpoint_grain="each phase, each reply on arrival; scripted: a chunk of runs, at most every 2 s",
    ),
    JobSpec(
        "govsim.subskills",
        params=SubskillsParams,
        result=SubskillsResult,
        pool="sim",
        summary="Ask a language model the paper's questions on dynamics, sustainable takings and thresholds.",
        progress_unit="items",
        checkpoint_grain="each test, each reply on arrival",
    ),
    JobSpec(
        "govsim.train_clone",
        params=TrainCloneParams,
        result=TrainCloneResult,
        pool="gpu",
        summary="Train a small local model on logged harvest decisions, to be asked like any other model.",
        progress_unit="steps",
        checkpoint_grain="every 50 steps",
    ),
    JobSpec(
        "govsim.analyse",
        params=AnalyseParams,
        result=AnalyseResult,
        pool="cpu",
        summary="Read run logs of commons societies into the paper's metrics, figures and log_env format.",
        progress_unit="runs",
        checkpoint_grain="every 1,000 runs above 1,000",
    ),
]
