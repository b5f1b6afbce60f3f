"""One condition of `govsim.simulate`: a society, its commons, its models."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from shared.jobs.catalog.govsim.policies import (
    MAX_AGENTS,
    MAX_CAPACITY,
    MAX_MONTHS,
    MAX_RUNS,
    MAX_TALKING_RUNS,
    NEWCOMER_MONTHS,
    PERSONAS,
    RETRIEVED,
    AnyPolicy,
    ChatRef,
    EncoderRef,
    Experiment,
    Llm,
    ParserName,
    Policies,
    Scenario,
    Threshold,
)
from shared.jobs.references import Ref
from shared.jobs.spec import Params, Seed, Text

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
    policies: Policies = Field(Threshold(), description="One policy for all agents, or a list with one per agent.")
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
    def _give_one_policy_or_one_per_agent(
        cls, policies: AnyPolicy | list[AnyPolicy], info: ValidationInfo
    ) -> AnyPolicy | list[AnyPolicy]:
        agents = info.data.get("agents")
        if agents is not None and isinstance(policies, list) and len(policies) != agents:
            raise ValueError(
                f"{len(policies)} policies for {agents} agents; give one for all without the brackets, or a list of "
                f"{agents}"
            )
        return policies

    @field_validator("framework_model")
    @classmethod
    def _serve_agents_with_models(cls, model: Ref | None, info: ValidationInfo) -> Ref | None:
        policies = info.data.get("policies")
        if model is not None and policies is not None and not any(isinstance(one, Llm) for one in _listed(policies)):
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
        return any(isinstance(policy, Llm) for policy in _listed(self.policies))

    @property
    def policy_of_each(self) -> list[AnyPolicy]:
        """One policy per agent."""
        return self.policies if isinstance(self.policies, list) else [self.policies] * self.agents


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
    if "experiment" in given:
        named = given["experiment"]
        adds = named == "newcomer" and given.get("universalization") is True
        return "newcomer_universalization" if adds else named
    if given.get("universalization") is True:
        return "universalization"
    return "no_communication" if given.get("communication") is False else "default"


def _first_model(policies: Any) -> Any:
    """The model of the first agent that has one, before validation; None if there is none."""
    models = [_model_of(policy) for policy in _listed(policies)]
    return next((model for model in models if model is not None), None)


def _listed(policies: Any) -> list[Any]:
    return policies if isinstance(policies, list) else [policies]


def _model_of(policy: Any) -> Any:
    if isinstance(policy, Llm):
        return policy.model
    return policy.get("model") if isinstance(policy, dict) and policy.get("type") == "llm" else None


def default_names(agents: int) -> list[str]:
    """The paper's five names, then Person 6, Person 7, …"""
    return [*PERSONAS, *(f"Person {i}" for i in range(len(PERSONAS) + 1, agents + 1))][:agents]
