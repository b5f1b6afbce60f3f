"""The kinds of INSTA, instruction-based task selection (arXiv 2404.16418).

`insta.index` embeds the instructions of a task library; `insta.query` ranks its tasks for a target by instructions
alone; `insta.align` teaches the encoder the library's own style; `insta.evaluate` measures rankings against known
relations; `insta.downstream` tunes small models on the selected tasks.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import JobSpec, Params, Result, Seed, Text

MAX_RESULTS = 100  # in a result; artifacts hold all
MAX_INSTRUCTIONS = 50  # of one target
MAX_K = 100_000

Aggregate = Literal["max", "mean_of_max", "mean", "vote"]
Method = Literal["insta", "bm25", "random", "all", "data_sample", "rrf"]
Ranker = Literal["insta", "insta_unaligned", "bm25", "random", "data_sample", "rrf"]
Backend = Literal["best", "openvino-bf16", "openvino-f32", "onnx", "torch"]
RefineMode = Literal["names", "strip", "raw"]
IndexRef = Annotated[Ref, Schemes("job", "file")]
Instruction = Annotated[Text, Field(min_length=1, max_length=20_000)]
Name = Annotated[Text, Field(min_length=1, max_length=300)]
AGGREGATE = "Task score from instruction cosines: max (ours), mean_of_max, mean (older official), vote (official P3)."


def _not_blank(texts: list[str]) -> list[str]:
    for number, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"instruction {number} is empty; write what the task asks for")
    return texts


class IndexParams(Params):
    """A library of instruction tasks, and how to embed it."""

    library: Annotated[Ref, Schemes("file", "job", "builtin")] | None = Field(
        None, description="JSONL (.gz), CSV, or promptsource / natural-instructions folders as .tar or .zip."
    )
    encoder: Annotated[Ref, Schemes("builtin", "file", "hub", "job")] = Field(
        Ref("builtin:minilm"), description="A Sentence-Transformers folder; file:, job: one packed as .tar."
    )
    backend: Backend = Field("best", description="What computes the vectors; best: the fastest that is installed.")
    max_tokens: int = Field(256, ge=8, le=8192, description="Longer instructions are cut; at most the model's own.")
    batch_size: int = Field(16, ge=1, le=512, description="Instructions per forward pass.")
    refine: RefineMode = Field("names", description="Placeholders of templates: their names, nothing, or as they are.")
    original_task_only: bool = Field(
        True, description="Keep templates flagged original_task (P3); all of a task's where none is flagged."
    )
    samples: bool | None = Field(
        None,
        description="Embed each task's example too, for the method data_sample. Left out: a merge keeps those of "
        "base_index, else false.",
    )
    base_index: IndexRef | None = Field(None, description="An index whose vectors are reused where nothing changed.")
    update: Literal["replace", "merge"] = Field(
        "replace",
        description="replace: the library is the whole; merge: it adds to base_index or replaces; a head stays",
    )
    remove: list[Name] = Field([], max_length=100_000, description="Task ids that leave base_index; merge only.")
    seed: Seed = 42

    @model_validator(mode="after")
    def _say_what_to_index(self) -> Self:
        if self.update == "merge" and self.base_index is None:
            raise ValueError("update merge needs a base_index to merge into; give one or leave update out")
        if self.remove and self.update != "merge":
            raise ValueError("remove needs update merge and a base_index; without them leave the tasks out of library")
        if self.library is None and not self.remove:
            raise ValueError("library is missing; give one, or update merge with ids to remove")
        return self


class IndexResult(Result):
    """What the index holds and what it took."""

    tasks: int = Field(description="Tasks; T.")
    instructions: int = Field(description="Instructions, one vector each; N.")
    encoded: int = Field(description="Different texts that were encoded.")
    reused: int = Field(description="Instructions whose vector was copied from base_index.")
    duplicates: int = Field(description="Instructions that share their text with another one: encoded once.")
    truncated: int = Field(description="Encoded texts longer than max_tokens; their ends were cut.")
    empty_instructions: int = Field(description="Templates of which refinement left nothing; dropped.")
    tasks_left_out: int = Field(description="Tasks left with no instruction; the log names them.")
    categories: int = Field(description="Different categories.")
    dimensions: int = Field(description="Length of a vector; d.")
    encoder: str = Field(description="SHA-256 of the encoder.")
    backend: str = Field(description="What computed the vectors.")
    version: str = Field(description="Names this index by its content.")


class Filters(BaseModel):
    """Which tasks are candidates at all; applied before ranking. An empty list lets everything through."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    sources: list[Name] = Field([], description="Only tasks of these sources.")
    datasets: list[Name] = Field([], description="Only tasks of these data sets.")
    categories: list[Name] = Field([], description="Only tasks of these categories.")
    languages: list[Name] = Field([], description="Only tasks all of whose languages are among these.")
    splits: list[Name] = Field([], description="Only tasks of these splits.")
    allow: list[Name] = Field([], max_length=100_000, description="Only these task ids.")
    deny: list[Name] = Field([], max_length=100_000, description="Not these task ids.")
    exclude_same_dataset: bool = Field(False, description="No task of the target's own data set.")
    exclude_identical_instruction: bool = Field(False, description="No task that has one of the target's instructions.")
    min_score: float | None = Field(None, ge=-1e30, le=1e30, description="No task that scores below; not for vote.")


class Example(BaseModel):
    """One input of the target with its output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Text = Field(description="The input.")
    output: Text = Field(description="The output.")


class QueryParams(Params):
    """A target, by its instructions, as a task of the library, or many of them as a file."""

    index: IndexRef = Field(description="index.tar of insta.index or insta.align.")
    instructions: Annotated[list[Instruction], Field(min_length=1, max_length=MAX_INSTRUCTIONS)] | None = Field(
        None, description="The target's instructions."
    )
    task_id: Name | None = Field(None, description="A task of the library is the target; it is no candidate itself.")
    queries: Annotated[Ref, Schemes("file", "job")] | None = Field(
        None,
        description="Many targets, JSONL {id, instructions, dataset?, example?}; answers go to results.jsonl. A task "
        "of the library with a target's id is no candidate for it.",
    )
    dataset: Name | None = Field(None, description="The target's data set, for exclude_same_dataset and same_dataset.")
    example: Example | None = Field(None, description="The target's example, for the method data_sample.")
    k: int | None = Field(
        None, ge=1, le=MAX_K, description="Tasks to select; left out: 5 up to 100 tasks, else 0.0926·T (70 of 756)."
    )
    method: Method = Field("insta", description="insta, or a baseline; rrf joins insta and bm25.")
    aggregate: Aggregate = Field("max", description=AGGREGATE)
    vote_depth: int = Field(10, ge=1, le=1000, description="Places of each list that vote; D.")
    vote_weighted: bool = Field(False, description="The second official variant: each vote counts by its cosine.")
    use_head: bool = Field(True, description="Use the alignment of an aligned index.")
    filters: Filters = Field(Filters(), description="Which tasks are candidates.")
    figures: bool = Field(True, description="Draw the figures (not for queries).")
    seed: Seed = 42

    @model_validator(mode="after")
    def _give_one_target(self) -> Self:
        given = [name for name in ("instructions", "task_id", "queries") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'no target'} given; give exactly one of instructions, task_id and queries"
            )
        for name in ("dataset", "example"):
            if getattr(self, name) is not None and self.instructions is None:
                raise ValueError(f"{name} goes with instructions; a task_id or a line of queries brings its own")
        if self.method == "data_sample" and self.instructions is not None and self.example is None:
            raise ValueError("method data_sample compares examples; give example, or choose another method")
        return self

    @model_validator(mode="after")
    def _give_a_minimum_to_scores_only(self) -> Self:
        if self.filters.min_score is not None:
            if self.aggregate == "vote" and self.method in ("insta", "bm25"):
                raise ValueError("filters.min_score has no meaning for aggregate vote; leave it out or choose max")
            if self.method in ("random", "all"):
                raise ValueError(f"filters.min_score: method {self.method} has no scores; leave it out")
        return self

    @field_validator("instructions")
    @classmethod
    def _write_each_instruction(cls, instructions: list[str] | None) -> list[str] | None:
        return instructions if instructions is None else _not_blank(instructions)


class BestPair(Result):
    """The nearest pair of instructions: why the task was chosen."""

    query_instruction: str = Field(description="The target's side, shortened.")
    task_instruction: str = Field(description="The task's side, shortened.")
    cosine: float = Field(description="Their cosine.")


class Selected(Result):
    """One selected task."""

    query_id: str | None = Field(None, description="The target, where there are many.")
    rank: int = Field(description="From 1.")
    task_id: str = Field(description="The task.")
    score: float | None = Field(description="By the method and aggregate; null for all, random and vote.")
    z: float | None = Field(description="(score − background mean) / background sd; null where undefined.")
    category: str | None = Field(description="The task's category.")
    dataset: str | None = Field(description="The task's data set.")
    best_pair: BestPair | None = Field(description="Nearest instruction pair under the encoder.")
    per_query_scores: list[float] = Field(description="Best cosine to each of the target's instructions.")
    votes: list[int] | None = Field(description="Aggregate vote: how often the task stands at place 0, 1, …")
    shared_terms: list[str] = Field(description="Up to 8 words the two share, highest BM25 contribution first.")
    duplicate_of: str | None = Field(description="An earlier task of the selection with an identical instruction.")
    same_dataset: bool = Field(description="Whether task and target are of one data set.")


class CategoryShare(Result):
    """A category's part of the selection."""

    category: str | None = Field(description="The category; null: tasks without one.")
    share: float = Field(description="Of the selected tasks.")


class Background(Result):
    """Scores of the whole library (rrf: of the candidates): what an unrelated task gets."""

    mean: float | None = Field(description="Mean over tasks.")
    sd: float | None = Field(description="Population standard deviation over tasks.")


class QueryResult(Result):
    """The selection. Long ones are cut here; results.json (many queries: results.jsonl) holds all."""

    results: list[Selected] = Field(description="At most 100, best first.")
    selected: int = Field(description="Tasks selected, over all queries.")
    queries: int = Field(description="Targets.")
    k: int = Field(description="Tasks asked for, per target.")
    candidates: int | None = Field(
        description="Tasks that passed the filters, with data_sample those that have an example; null for many queries."
    )
    categories: list[CategoryShare] = Field(description="Share of each category in the selection, at most 50.")
    margin: float | None = Field(description="score_k − score_(k+1); null where there is no next task.")
    background: Background | None = Field(description="Null where the method has no scores, or for many queries.")
    warnings: list[str] = Field(description="What a reader should know before trusting the selection.")
    index_version: str = Field(description="The index that answered.")


class AlignParams(Params):
    """Teach the encoder the library's own style."""

    index: IndexRef = Field(description="The index to align.")
    recipe: Literal["pairs", "category"] | None = Field(
        None, description="pairs: the official one; category: ours. Left out: category if ≥ 90 % of tasks have one."
    )
    train: Literal["head", "full"] = Field("head", description="A d×d matrix on cached vectors, or the whole encoder.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Left out: head 3e-4, full 2e-5.")
    steps: int = Field(300, ge=0, le=100_000, description="Steps of the category recipe.")
    epochs: int = Field(5, ge=1, le=100, description="Passes over the pairs, recipe pairs.")
    batch: int | None = Field(None, ge=2, le=4096, description="Left out: category 128 draws (full: 16), pairs 16.")
    tau: float = Field(0.07, gt=0, le=10, description="Temperature of the category recipe; τ.")
    penalty: float = Field(0.01, ge=0, le=1e3, description="λ of λ‖W − I‖²: keeps the head near the identity.")
    pos_fraction: float = Field(0.4, gt=0, le=1, description="Share of each data set's pairs that are positives.")
    neg_threshold: float = Field(0.3, ge=-1, le=1, description="A negative's cosine is below this, unaligned.")
    neg_max_use: int = Field(4, ge=1, le=1000, description="How often an instruction may serve as a negative.")
    unseen_categories: list[Name] | None = Field(
        None, min_length=1, max_length=10_000, description="Kept out of validated training. Left out: drawn, 15 %."
    )
    heldout_tasks: float = Field(
        0.1, ge=0, le=0.5, description="Share of seen tasks (pairs: of whole data sets) kept out of validated training."
    )
    refit: bool | None = Field(
        None,
        description="Deliver a head trained on all tasks after validation (pairs: up to the chosen epoch). Left out: "
        "true for head.",
    )
    seed: Seed = 42

    @model_validator(mode="after")
    def _refit_heads_only(self) -> Self:
        if self.train == "full" and self.refit:
            raise ValueError("refit is for train head; a full encoder is delivered as it was validated")
        return self


class Retrieval(Result):
    """Retrieval quality on one set of queries, with the 95 % bootstrap interval over queries."""

    queries: int = Field(description="Queries with at least one relevant task.")
    ndcg: float | None = Field(description="Mean nDCG@10; null without queries.")
    low: float | None = Field(description="Lower end of the interval.")
    high: float | None = Field(description="Upper end of the interval.")


class BeforeAfter(Result):
    """One set of queries before and after alignment; relevant is the same category, without categories the same data
    set; recipe pairs, with one task per data set: a query is one instruction, relevant are its data set's others."""

    before: Retrieval = Field(description="The encoder as it was.")
    after: Retrieval = Field(description="The aligned one.")
    before_strict: Retrieval = Field(description="Candidates of the query's own data set removed.")
    after_strict: Retrieval = Field(description="The same, aligned.")


class AlignResult(Result):
    """What alignment does to tasks it wasn't trained on."""

    recipe: str = Field(description="pairs or category.")
    train: str = Field(description="head or full.")
    steps: int = Field(description="Steps of the validated training.")
    examples: int = Field(description="Pairs, or tasks with a category, that it was trained on.")
    forced_negatives: int = Field(description="Negatives taken although none was far enough; pairs.")
    loss_first: float | None = Field(description="Loss of the first step; null without steps.")
    loss_last: float | None = Field(description="Loss of the last step.")
    dev_pearson: float | None = Field(description="Pearson(cos, label) on held-out pairs after training; pairs only.")
    chosen_epoch: int | None = Field(
        description="The epoch delivered, best on held-out tasks; the last without such; pairs only."
    )
    heldout: BeforeAfter = Field(description="Held-out tasks of seen categories.")
    unseen: BeforeAfter = Field(description="Tasks of categories that were not trained on.")
    unseen_categories: list[str] = Field(description="Those categories or data sets, at most 100.")
    warnings: list[str] = Field(description="For one: that unseen categories lose.")
    index_version: str = Field(description="The new index.")


class EvaluateParams(Params):
    """Rankings against known relations."""

    index: IndexRef = Field(description="The library.")
    queries: Annotated[Ref, Schemes("file")] | Literal["leave_one_out"] = Field(
        "leave_one_out", description="Targets as JSONL {id, instructions, category?, dataset?, example?}."
    )
    relevance: Literal["category", "dataset"] | Annotated[Ref, Schemes("file")] = Field(
        "category", description="What makes a task relevant; a file: JSONL {query_id, task_ids}."
    )
    methods: list[Ranker] = Field(
        ["insta", "bm25", "random"],
        min_length=1,
        max_length=6,
        description="The first is what others are tested against.",
    )
    ks: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(
        [1, 5, 10, 70], min_length=1, max_length=20, description="Cuts of precision, recall and nDCG."
    )
    aggregate: Aggregate = Field("max", description=AGGREGATE)
    vote_depth: int = Field(10, ge=1, le=1000, description="Places of each list that vote; D.")
    vote_weighted: bool = Field(False, description="The second official variant of vote.")
    query_filters: Filters = Field(Filters(), description="Which tasks are queries, leave_one_out.")
    filters: Filters = Field(Filters(), description="Which tasks are candidates.")
    resamples: int = Field(1_000, ge=100, le=100_000, description="Of the bootstrap over queries.")
    seed: Seed = 42

    @model_validator(mode="after")
    def _filter_as_documented(self) -> Self:
        for field in ("filters", "query_filters"):
            if getattr(self, field).min_score is not None:
                raise ValueError(f"{field}.min_score: whole rankings are measured; leave it out")
        for name in ("exclude_same_dataset", "exclude_identical_instruction"):
            if getattr(self.query_filters, name):
                raise ValueError(f"query_filters.{name}: queries have no target; give it in filters")
        return self

    @field_validator("methods", "ks")
    @classmethod
    def _name_each_once(cls, given: list[Any], info: ValidationInfo) -> list[Any]:
        if len(set(given)) < len(given):
            raise ValueError(f"{info.field_name} names one twice; name each once")
        return given


class Figure(Result):
    """One metric: mean over queries, its interval, and the mean over categories."""

    micro: float | None = Field(description="Mean over queries; null without queries.")
    low: float | None = Field(description="Lower end of the 95 % bootstrap interval of micro.")
    high: float | None = Field(description="Upper end.")
    macro: float | None = Field(description="Mean over categories of the category's mean; null without categories.")


class MethodFigures(Result):
    """One method on one variant."""

    method: str = Field(description="The method.")
    strict: bool = Field(description="Whether candidates of the query's own data set were removed first.")
    queries: int = Field(description="Queries that count.")
    skipped: int = Field(description="Queries without any relevant candidate.")
    metrics: dict[str, Figure] = Field(
        description="By name: precision@k, recall@k, capped_recall@k, ndcg@k, mrr, map, …"
    )
    sign_test_p: float | None = Field(
        description="Two-sided sign test of nDCG@10 against the first method; null for it, and without queries."
    )
    better: int | None = Field(description="Queries better than under the first method.")
    worse: int | None = Field(description="Queries worse.")


class EvaluateResult(Result):
    """Every method, all candidates and strict."""

    figures: list[MethodFigures] = Field(description="Two per method.")
    queries: int = Field(description="Targets given.")
    candidates: int = Field(description="Tasks of the library that passed the filters.")
    index_version: str = Field(description="The index.")


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


KINDS = [
    JobSpec(
        "insta.index", IndexParams, IndexResult, pool="cpu",
        summary="Embed the instructions of a task library into an index that can be queried.",
        progress_unit="instructions", checkpoint_grain="a shard of 512 instructions",
    ),
    JobSpec(
        "insta.query", QueryParams, QueryResult, pool="cpu",
        summary="Rank a library's tasks for a target by instructions alone, with reasons.",
        progress_unit="queries", checkpoint_grain="1,000 queries",
    ),
    JobSpec(
        "insta.align", AlignParams, AlignResult, pool="gpu",
        summary="Align an index to its library's style, validated on unseen categories.",
        progress_unit="steps", checkpoint_grain="50 steps",
    ),
    JobSpec(
        "insta.evaluate", EvaluateParams, EvaluateResult, pool="cpu",
        summary="Measure rankings against known relations: precision, nDCG, MAP with intervals.",
        progress_unit="queries × methods", checkpoint_grain="a method",
    ),
    JobSpec(
        "insta.downstream", DownstreamParams, DownstreamResult, pool="gpu",
        summary="Tune small models on selected, random and all tasks and score the target.",
        progress_unit="runs × steps", checkpoint_grain="100 steps",
    ),
]  # fmt: skip
