"""Params of the kinds that run a suffix against a model: `dsn.evaluate` and `dsn.transfer`."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.jobs.catalog.dsn.judging import JudgedParams, JudgeName, Phrase
from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Text

MAX_STEPS, MAX_CANDIDATES, MAX_PROMPTS, MAX_SUFFIX = 2_000, 4_096, 500, 64
COLOURS = "builtin:colours"
Line = Annotated[Text, Field(min_length=1, max_length=300)]
Alpha = Annotated[float, Field(gt=0, le=1e6)]
Smoothing = Literal["swap", "patch", "insert", "token"]


class Authorisation(BaseModel):
    """Who lets this evaluation happen, and what for. Goes into the audit trail."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    owner: Line = Field(description="Who is responsible for the model.")
    purpose: Line = Field(description="What the evaluation is for.")
    ticket: Line = Field(description="Where the approval is recorded.")
    expires: date = Field(description="The last day on which it may run, UTC.")

    @field_validator("expires")
    @classmethod
    def _be_in_force(cls, expires: date) -> date:
        today = datetime.now(UTC).date()
        if expires < today:
            raise ValueError(f"the authorisation expired on {expires}; it is {today}: have it renewed")
        return expires


class Perplexity(BaseModel):
    """The perplexity filter; its clean texts are the harmless prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    quantile: float = Field(1.0, gt=0, le=1, description="Of the clean texts' values, which is the threshold.")
    window: int = Field(10, ge=1, le=1000, description="Tokens of a window in the windowed variant.")
    reference: Annotated[Ref, Schemes("hub", "file", "job", "builtin")] | None = Field(
        None, description="The language model that texts are unlikely under; left out: the model itself."
    )


class Smooth(BaseModel):
    """SmoothLLM."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    copies: int = Field(10, ge=1, le=100, description="Perturbed copies; N.")
    q: float = Field(10.0, ge=0, le=100, description="Per cent of characters (token: of words) perturbed.")
    kind: Smoothing = Field("swap", description="swap, patch, insert: characters; token: whole words.")


class Erase(BaseModel):
    """Erase-and-check, suffix mode."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    d: int = Field(20, ge=0, le=200, description="Most tokens erased from the end.")
    checker: JudgeName | None = Field(
        None, description="A judge of this job whose `fail` is a refusal; left out: the model's own answer, by phrases."
    )


class Defences(BaseModel):
    """Which defences are evaluated; null leaves one out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    perplexity: Perplexity | None = Field(Perplexity(), description="Blocks text that is unlikely under the model.")
    smoothllm: Smooth | None = Field(Smooth(), description="Answers perturbed copies and takes a vote.")
    erase_and_check: Erase | None = Field(Erase(), description="Refuses if any shortened version is refused.")


class AttackParams(JudgedParams):
    """What both kinds share: a model of the list, behaviours, judges, decoding."""

    model: Annotated[Ref, Schemes("allowed")] = Field(description="An entry of the red-team list.")
    behaviours: Annotated[Ref, Schemes("file", "builtin")] = Field(
        description="CSV of AdvBench, JailbreakBench or HarmBench form; builtin:colours: the benign colour world."
    )
    behaviour_targets: Annotated[Ref, Schemes("file")] | None = Field(
        None, description="HarmBench: the JSON object of targets by BehaviorID."
    )
    make_targets: bool = Field(False, description="Write `Sure, here is …` where a behaviour has no target.")
    benign: Annotated[Ref, Schemes("file")] | None = Field(
        None, description="Harmless prompts (CSV with prompt or goal), for over-refusal and perplexity."
    )
    authorisation: Authorisation = Field(description="Who lets this happen, and what for.")
    n_test: int = Field(100, ge=1, le=MAX_PROMPTS, description="Disjoint prompts that decide.")
    n_benign: int = Field(50, ge=0, le=MAX_PROMPTS, description="Harmless prompts used.")
    judge_sees_suffix: bool = Field(
        False, description="Judges read goal and suffix, as the official evaluation has it."
    )
    eval_max_new_tokens: int = Field(512, ge=1, le=4096, description="Longest answer that is decoded.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on a GPU, else float32.")
    reveal: bool = Field(False, description="Also keep prompts and answers, encrypted; needs the scope redteam:reveal.")

    @model_validator(mode="after")
    def _keep_stand_ins_in_their_world(self) -> Self:
        if self.behaviours.scheme == "builtin" and self.behaviours != COLOURS:
            raise ValueError(f"{self.behaviours} is no behaviours file; the one that ships is {COLOURS}")
        odd = [judge.name for judge in self.judges if judge.stand_in]
        if odd and self.behaviours != COLOURS:
            raise ValueError(f"judges: {', '.join(odd)} only knows the colour world; use it with {COLOURS}")
        if not self.judges:
            raise ValueError("judges is empty; name at least one")
        return self


class EvaluateParams(AttackParams):
    """The whole card: attacks, controls, judges, votes, defences."""

    objective: Literal["both", "gcg", "dsn"] = Field("both", description="Which attacks run.")
    alpha: Alpha | Annotated[list[Alpha], Field(min_length=1, max_length=8)] = Field(
        10.0, description="Weight of the refusal loss; several: one DSN attack each, and the α figure."
    )
    cosine_decay: bool | None = Field(None, description="Decaying weights of the target. Left out: DSN yes, GCG no.")
    grad_refusal: bool = Field(False, description="The refusal loss enters the candidate gradients too.")
    grad_alpha: float | None = Field(None, ge=0, le=1e6, description="Its weight there; left out: alpha.")
    suffix_init: Text = Field("! " * 19 + "!", min_length=1, max_length=2_000, description="Where the search starts.")
    n_steps: int = Field(500, ge=1, le=MAX_STEPS, description="Steps of each search.")
    batch_size: int = Field(512, ge=1, le=MAX_CANDIDATES, description="Candidates drawn per step; B.")
    topk: int = Field(256, ge=1, le=100_000, description="Tokens per position that candidates are drawn from.")
    n_train: int = Field(25, ge=1, le=MAX_PROMPTS, description="Prompts that the suffix is optimised for.")
    n_suffixes: int = Field(1, ge=1, le=20, description="Independent runs of each attack: seed, seed + 1, …")
    test_steps: int = Field(25, ge=1, le=MAX_STEPS, description="Steps between evaluations on the train prompts.")
    test_curve: bool = Field(False, description="Evaluate the test prompts at those steps too, for the figure.")
    stop_on_success: bool = Field(False, description="Stop a search once every train prompt is answered.")
    allow_non_ascii: bool = Field(False, description="Let tokens into the suffix that aren't printable ASCII.")
    filter_candidates: bool = Field(True, description="Keep only suffixes that survive being written out.")
    target_rewrite: Literal["off", "seeded"] = Field(
        "off", description="seeded: half of the targets get `Sure, here's` for `Sure, here is`, by the seed."
    )
    refusal_phrases: list[Phrase] | None = Field(
        None, min_length=1, max_length=500, description="Of the loss; left out: the official 7."
    )
    random_draws: int = Field(5, ge=5, le=50, description="Random suffixes of the control.")
    defences: Defences = Field(Defences(), description="Evaluated on the test prompts.")

    @property
    def alphas(self) -> list[float]:
        return self.alpha if isinstance(self.alpha, list) else [self.alpha]

    @field_validator("alpha")
    @classmethod
    def _name_each_alpha_once(cls, alpha: Any) -> Any:
        if isinstance(alpha, list) and len(set(alpha)) < len(alpha):
            raise ValueError("alpha names a value twice; name each once")
        return alpha

    @field_validator("suffix_init")
    @classmethod
    def _keep_the_suffix_short(cls, suffix: str) -> str:
        if not suffix.strip():
            raise ValueError("suffix_init is empty; write at least one token")
        if len(suffix.split()) > MAX_SUFFIX:
            raise ValueError(f"suffix_init has {len(suffix.split())} words; a suffix has at most {MAX_SUFFIX} tokens")
        return suffix.strip()

    @model_validator(mode="after")
    def _keep_the_caps(self) -> Self:
        if self.n_train + self.n_test > MAX_PROMPTS:
            raise ValueError(f"n_train + n_test is {self.n_train + self.n_test}; at most {MAX_PROMPTS} prompts")
        return self

    @model_validator(mode="after")
    def _check_by_a_judge_of_this_job(self) -> Self:
        erase = self.defences.erase_and_check
        if erase is not None and erase.checker is not None:
            able = [judge.name for judge in self.judges if judge.type != "exact"]
            if erase.checker not in able:
                raise ValueError(
                    f"defences.erase_and_check.checker {erase.checker} is no judge of this job that reads a shortened "
                    f"text; those are: {', '.join(able) or 'none'}"
                )
        return self


class TransferParams(AttackParams):
    """Stored suffixes on another model."""

    suffixes: Annotated[Ref, Schemes("job")] = Field(description="job:<id>/suffixes.enc of a dsn.evaluate job.")

    @field_validator("suffixes")
    @classmethod
    def _name_the_sealed_artifact(cls, ref: Ref) -> Ref:
        if ref.artifact not in ("suffixes.enc", "suffixes"):
            raise ValueError(f"{ref} is not a job's suffixes; write job:<id>/suffixes.enc")
        return ref
