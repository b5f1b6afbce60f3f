"""`insta.align`: the encoder learns which instructions belong together."""

from typing import Literal, Self

from pydantic import Field, model_validator

from shared.jobs.catalog.insta.fields import IndexRef, Name
from shared.jobs.spec import Params, Result, Seed


class AlignParams(Params):
    """Teach the encoder the library's own style."""

    index: IndexRef = Field(description="The index to align.")
    recipe: Literal["pairs", "category"] | None = Field(
        None, description="pairs: the official one; category: ours. Left out: category if ≥ 90 % of tasks have one."
    )
    train: Literal["head", "full"] = Field("head", description="A d×d matrix on cached vectors, or the whole encoder.")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="Left out: head 3e-4, full 2e-5 (the official one, for a BERT-large, is 1e-6)."
    )
    steps: int = Field(300, ge=0, le=100_000, description="Steps of the category recipe.")
    epochs: int = Field(5, ge=1, le=100, description="Passes over the pairs, recipe pairs.")
    batch: int | None = Field(None, ge=2, le=4096, description="Left out: category 128 draws (full: 16), pairs 16.")
    warm_up: float = Field(0.1, ge=0, le=1, description="Share of an epoch in which the rate rises, recipe pairs.")
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
