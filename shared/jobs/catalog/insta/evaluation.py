"""`insta.evaluate`: how well a method finds what is relevant."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from shared.jobs.catalog.insta.fields import AGGREGATE, Aggregate, IndexRef, Ranker
from shared.jobs.catalog.insta.querying import Filters
from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed


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
