"""`layerskip.generate`, `layerskip.tune` and `layerskip.bench`: their Params and Results."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from shared.jobs.catalog.layerskip.training import Dtype, ModelRef
from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed, Text

MAX_OUTPUT_BYTES = 40_000  # of a result's outputs; outputs.jsonl holds all
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Prompt = Annotated[Text, Field(min_length=1, max_length=1_000_000)]
Ids = Annotated[list[TokenId], Field(min_length=1, max_length=1_000_000)]
Layer = Annotated[int, Field(ge=1, le=200)]
Drafts = Annotated[int, Field(ge=0, le=64)]
Policy = Literal["static", "constant", "heuristic", "heuristic_transient", "adaptive"]
Strategy = Literal["autoregressive", "early_exit", "self_speculative"]
Format = Literal["auto", "lm", "cnn_dm", "xsum", "humaneval", "topv2"]


class PromptParams(Params):
    """What is decoded, by which model."""

    model: ModelRef = Field(description="A Llama folder, packed as .tar where it is a file or artifact.")
    prompts: (
        Annotated[list[Prompt] | list[Ids], Field(min_length=1, max_length=512)]
        | Annotated[Ref, Schemes("file", "job", "builtin")]
    ) = Field(description="Texts, or lists of token ids; or a file: JSONL {prompt, response?}, or text (lm).")
    prompt_format: Format = Field(
        "auto", description="How a file is read. lm: 100 words are the prompt, the rest the reference."
    )
    prompt_tokens: int | None = Field(
        None, ge=1, le=100_000, description="lm: so many tokens are the prompt instead of 100 words."
    )
    n_shot: int = Field(0, ge=0, le=64, description="Examples before each prompt of a file.")
    num_samples: int | None = Field(None, ge=1, le=100_000, description="Prompts of a file; left out: all.")
    random_shuffle: bool = Field(True, description="Shuffle a file's prompts by seed before num_samples are taken.")
    max_new_tokens: int = Field(512, ge=1, le=100_000, description="Per prompt.")
    stop_words: list[Annotated[Text, Field(min_length=1, max_length=200)]] = Field(
        [], max_length=64, description="An output is cut before the first of these."
    )
    stop_token_ids: list[TokenId] = Field([], max_length=64, description="End an output, beside the model's own.")
    no_repeat_ngram_size: int = Field(0, ge=0, le=64, description="No n-gram comes twice; 0: off.")
    sample: bool = Field(False, description="Draw tokens; else greedy.")
    temperature: float = Field(0.6, ge=0, le=100, description="Of sampling; 0 is greedy.")
    top_p: float = Field(0.9, gt=0, le=1, description="Nucleus of sampling.")
    top_k: int = Field(0, ge=0, le=1_000_000, description="Likeliest tokens kept in sampling; 0: all.")
    dtype: Dtype = Field("auto", description="auto: float32 on the CPU, bfloat16 on CUDA.")
    seed: Seed = 42

    @field_validator("prompts")
    @classmethod
    def _write_each_prompt(cls, prompts: list[str] | list[list[int]] | Ref) -> list[str] | list[list[int]] | Ref:
        if isinstance(prompts, list):
            for number, prompt in enumerate(prompts):
                if isinstance(prompt, str) and not prompt:
                    raise ValueError(f"prompt {number} is empty")
        return prompts

    @model_validator(mode="after")
    def _shoot_from_files(self) -> Self:
        if self.n_shot and not isinstance(self.prompts, Ref):
            raise ValueError("n_shot takes its examples from a file of prompts; leave it out for inline prompts")
        return self


class GenerateParams(PromptParams):
    """Decode prompts: plain, by an early exit, or speculating on oneself."""

    strategy: Strategy = Field("self_speculative", description="How to decode.")
    exit_layer: Layer | Literal["auto"] = Field("auto", description="E; auto: tune's choice, else max(1, L // 4).")
    num_speculations: Drafts | Literal["auto"] = Field("auto", description="K, drafts per step; auto: tune's, else 4.")
    policy: Policy = Field("static", description="How K (adaptive: and E) changes from step to step.")
    assistant_confidence_threshold: float | None = Field(
        None, ge=0, le=1, description="Stop drafting below this top probability; left out: 0 for static, else 0.4."
    )
    tune: Annotated[Ref, Schemes("job", "file")] | None = Field(
        None, description="tune.json of layerskip.tune: the choice of E and K, and c, h for adaptive."
    )
    batch_size: int = Field(1, ge=1, le=256, description="Prompts decoded together.")

    @model_validator(mode="after")
    def _adapt_by_measured_costs(self) -> Self:
        if self.policy != "static" and self.strategy != "self_speculative":
            raise ValueError(f"policy {self.policy} is for strategy self_speculative")
        if self.policy == "adaptive" and self.tune is None:
            raise ValueError("policy adaptive needs tune: job:<id>/tune.json, with measured c and h")
        if self.policy != "static" and self.batch_size > 1:
            raise ValueError(f"policy {self.policy} chooses each step by itself; batch_size must be 1")
        if self.assistant_confidence_threshold and self.batch_size > 1:
            raise ValueError("assistant_confidence_threshold ends each draft by itself; batch_size must be 1")
        return self


class Output(Result):
    """One prompt's answer."""

    prompt: int = Field(description="Number of the prompt, from 0.")
    text: str | None = Field(description="The answer; null without a tokenizer.")
    token_ids: list[int] = Field(description="Its tokens, end token left out.")
    num_tokens: int = Field(description="How many.")
    finish_reason: Literal["eos", "stop", "length", "context"] = Field(
        description="End token, stop word, max_new_tokens, or the model's context."
    )
    drafted: int = Field(description="Tokens drafted.")
    accepted: int = Field(description="Drafts that stood.")
    steps: int = Field(description="Verification passes; plain decoding: tokens computed.")
    acceptance_rate: float | None = Field(description="accepted / drafted; null without drafts.")
    tokens_per_step: float | None = Field(description="Emitted before cutting at the end token / steps.")
    layer_calls: int = Field(description="Layers run, each call counted once whatever its rows.")
    layer_tokens: int = Field(description="Layers × tokens computed.")


class TextFigures(Result):
    """Answers against references."""

    rouge1: float = Field(description="ROUGE-1 F1, lower case, white-space words.")
    rouge2: float = Field(description="ROUGE-2.")
    rouge3: float = Field(description="ROUGE-3.")
    rougeL: float = Field(description="ROUGE-L.")
    bleu4: float = Field(description="Corpus BLEU-4, no smoothing.")
    exact_match: float = Field(description="Share of answers equal to the reference.")
    json_match: float = Field(description="Share equal as JSON; unreadable counts 0.")
    edit_distance: float = Field(description="Mean character edit distance; 0 is perfect.")


class GenerateResult(Result):
    """The answers; long ones are in outputs.jsonl."""

    strategy: str = Field(description="How they were decoded.")
    exit_layer: int | None = Field(description="E at the start; null for plain decoding.")
    num_speculations: int | None = Field(description="K at the start; null without drafts.")
    outputs: list[Output] = Field(description="As many as fit.")
    outputs_total: int = Field(description="Prompts; outputs.jsonl has all.")
    num_tokens: int = Field(description="Over all outputs.")
    drafted: int = Field(description="Over all.")
    accepted: int = Field(description="Over all.")
    steps: int = Field(description="Over all.")
    acceptance_micro: float | None = Field(description="Pooled: Σ accepted / Σ drafted.")
    acceptance_macro: float | None = Field(description="Mean of the outputs' rates, those without drafts left out.")
    tokens_per_step: float | None = Field(description="Pooled.")
    host_syncs_per_step: float | None = Field(description="Times a step waited for the device, mean.")
    distinct_4grams: float | None = Field(description="Different 4-grams / 4-grams, mean: low means loops.")
    empty_outputs: int = Field(description="Outputs without any token; left out of rates per token.")
    references: TextFigures | None = Field(description="Against the file's references, where it has some.")
    kernel: str = Field(description="What computed products of few rows: skinny, or plain.")
    warnings: list[str] = Field(description="What a reader should know.")


class TuneParams(PromptParams):
    """Find the exit and draft length that pay, from one pass per prompt."""

    max_new_tokens: int = Field(128, ge=2, le=100_000, description="Per prompt.")
    exit_layers: list[Layer] = Field([], max_length=200, description="E to look at; left out: 1 … L − 1, at most 15.")
    speculations: list[Annotated[int, Field(ge=1, le=64)]] = Field(
        [1, 2, 3, 4, 5, 6], min_length=1, max_length=64, description="K to look at."
    )
    confirm: int = Field(3, ge=1, le=64, description="Best choices that are run for real.")
    repeats: int = Field(5, ge=1, le=100, description="Times each is timed; medians count.")

    @model_validator(mode="after")
    def _end_by_tokens(self) -> Self:
        if self.stop_words:
            raise ValueError("stop_words end an answer by its text; tune takes stop_token_ids")
        return self

    @field_validator("exit_layers", "speculations")
    @classmethod
    def _name_each_once(cls, given: list[int], info: ValidationInfo) -> list[int]:
        if len(set(given)) < len(given):
            raise ValueError(f"{info.field_name} names one twice; name each once")
        return given


class Choice(Result):
    """One (E, K), simulated exactly and priced by measured costs."""

    exit_layer: int = Field(description="E.")
    num_speculations: int = Field(description="K.")
    acceptance_rate: float | None = Field(description="Accepted / drafted over all prompts.")
    tokens_per_step: float = Field(description="G.")
    predicted_speedup: float = Field(description="S of the formula with measured c and h.")
    measured_speedup: float | None = Field(description="Against plain decoding in this run; null where not confirmed.")


class Costs(Result):
    """Measured on this machine: in units of one layer on one token."""

    layer_us: float = Field(description="CPU microseconds of one layer on one token (CUDA: wall).")
    c: dict[str, float] = Field(description="c(n): a pass of n tokens through one layer.")
    h: float = Field(description="The head on one token.")
    c_head: dict[str, float] = Field(description="c_h(n): the head on n tokens, against one.")


class Divergence(Result):
    """Where a real speculative run left the plain tokens."""

    prompt: int = Field(description="Number of the prompt, from 0.")
    exit_layer: int = Field(description="E.")
    num_speculations: int = Field(description="K.")
    position: int = Field(description="New token, from 0.")
    margin: float = Field(description="Between the plain run's two greatest logits there: a tie, or a fault.")


class TuneResult(Result):
    """What to decode with, or that speculation doesn't pay here."""

    pays: bool = Field(description="Whether speculating is worth it; false is an answer.")
    verdict: str = Field(description="In a sentence.")
    exit_layer: int | None = Field(description="The chosen E; null where it doesn't pay.")
    num_speculations: int | None = Field(description="The chosen K.")
    predicted_speedup: float = Field(description="Of the best choice, by the formula.")
    confirmed_speedup: float | None = Field(description="Measured in this run.")
    costs: Costs = Field(description="c(n) and h.")
    best: list[Choice] = Field(description="The best twelve; sweep.csv has all.")
    counts_equal: bool = Field(description="Whether real runs that gave the plain tokens took the simulated steps.")
    ids_equal: bool = Field(description="Whether real runs gave the plain tokens.")
    divergences: list[Divergence] = Field(description="Those that did not, each with its margin; at most 100.")
    layers: int = Field(description="L.")
    prompts: int = Field(description="Prompts.")
    tokens: int = Field(description="Plain tokens decoded.")
    warnings: list[str] = Field(description="What a reader should know.")


class BenchParams(PromptParams):
    """Strategies side by side: same model, same prompts, interleaved."""

    max_new_tokens: int = Field(128, ge=2, le=100_000, description="Per prompt.")
    exit_layers: list[Layer] = Field([], max_length=4, description="E of speculative and early-exit rows.")
    speculations: list[Annotated[int, Field(ge=1, le=64)]] = Field(
        [4, 6], min_length=1, max_length=4, description="K of speculative rows."
    )
    rounds: int = Field(3, ge=1, le=100, description="Every strategy once a round; medians count.")
    transformers: bool = Field(True, description="transformers' generate() and assistant_early_exit as rows.")
    compiled: bool = Field(False, description="Rows of the compiled loop: minutes of compilation.")


class BenchRow(Result):
    """One strategy."""

    strategy: str = Field(description="How it decoded.")
    exit_layer: int | None = Field(description="E.")
    num_speculations: int | None = Field(description="K.")
    time_per_token_ms: float | None = Field(description="Mean over prompts of CPU (CUDA: wall) time per token.")
    tokens_per_second: float | None = Field(description="Mean over prompts.")
    tokens_per_second_pooled: float | None = Field(description="All tokens / all time.")
    ttft_ms: float | None = Field(description="Until the first tokens.")
    speedup: float | None = Field(description="Against our plain loop: ratio of time_per_token.")
    predicted_speedup: float | None = Field(description="By the formula with measured c, h and the row's rate.")
    predicted_with_prompt: float | None = Field(
        description="The same with the prompt's own pass, which both strategies pay and speedup includes."
    )
    acceptance_micro: float | None = Field(description="Pooled.")
    acceptance_macro: float | None = Field(description="Mean over prompts.")
    tokens_per_step: float | None = Field(description="Pooled.")
    equal_outputs: int | None = Field(description="Prompts whose tokens are the plain ones.")
    spread_ms: list[float] = Field(description="Fastest and slowest round, ms per token.")


class BenchResult(Result):
    """The table."""

    rows: list[BenchRow] = Field(description="One per strategy and (E, K).")
    costs: Costs = Field(description="c(n) and h.")
    prompts: int = Field(description="Prompts.")
    skipped: int = Field(description="Prompts on which nothing was generated; left out.")
    distinct_4grams: float | None = Field(description="Of the plain outputs: low means loops.")
    environment: dict[str, str] = Field(description="Versions, processor, threads, what the products take.")
    warnings: list[str] = Field(description="What a reader should know.")
