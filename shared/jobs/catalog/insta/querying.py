"""`insta.query`: a target, or many, against an index."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.jobs.catalog.insta.fields import (
    AGGREGATE,
    MAX_INSTRUCTIONS,
    MAX_K,
    Aggregate,
    IndexRef,
    Instruction,
    Method,
    Name,
    not_blank,
)
from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed, Text


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
    search: Literal["exact", "graph"] = Field(
        "exact",
        description="graph: approximate, by the index's HNSW graphs; for insta by max or mean_of_max, without filters.",
    )
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

    @model_validator(mode="after")
    def _walk_graphs_without_filters(self) -> Self:
        if self.search == "graph":
            if self.method != "insta" or self.aggregate not in ("max", "mean_of_max"):
                raise ValueError("search graph is for method insta by aggregate max or mean_of_max; use search exact")
            if self.filters != Filters():
                raise ValueError("search graph finds too little behind filters; leave filters out or use search exact")
        return self

    @field_validator("instructions")
    @classmethod
    def _write_each_instruction(cls, instructions: list[str] | None) -> list[str] | None:
        return instructions if instructions is None else not_blank(instructions)


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
