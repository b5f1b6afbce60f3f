"""The kinds of INSTA, instruction-based task selection (arXiv 2404.16418).

`insta.index` embeds the instructions of a task library; `insta.query` ranks its tasks for a target by instructions
alone; `insta.align` teaches the encoder the library's own style; `insta.evaluate` measures rankings against known
relations; `insta.downstream` tunes small models on the selected tasks.
"""

from shared.jobs.catalog.insta.alignment import AlignParams, AlignResult, BeforeAfter, Retrieval
from shared.jobs.catalog.insta.downstream import Arm, ArmScore, Contrast, DownstreamParams, DownstreamResult
from shared.jobs.catalog.insta.evaluation import EvaluateParams, EvaluateResult, Figure, MethodFigures
from shared.jobs.catalog.insta.fields import (
    AGGREGATE,
    MAX_INSTRUCTIONS,
    MAX_K,
    MAX_RESULTS,
    Aggregate,
    Backend,
    IndexRef,
    Instruction,
    Method,
    Name,
    Ranker,
    RefineMode,
)
from shared.jobs.catalog.insta.indexing import IndexParams, IndexResult
from shared.jobs.catalog.insta.querying import (
    Background,
    BestPair,
    CategoryShare,
    Example,
    Filters,
    QueryParams,
    QueryResult,
    Selected,
)
from shared.jobs.spec import JobSpec

__all__ = [
    "AGGREGATE",
    "KINDS",
    "MAX_INSTRUCTIONS",
    "MAX_K",
    "MAX_RESULTS",
    "Aggregate",
    "AlignParams",
    "AlignResult",
    "Arm",
    "ArmScore",
    "Backend",
    "Background",
    "BeforeAfter",
    "BestPair",
    "CategoryShare",
    "Contrast",
    "DownstreamParams",
    "DownstreamResult",
    "EvaluateParams",
    "EvaluateResult",
    "Example",
    "Figure",
    "Filters",
    "IndexParams",
    "IndexRef",
    "IndexResult",
    "Instruction",
    "Method",
    "MethodFigures",
    "Name",
    "QueryParams",
    "QueryResult",
    "Ranker",
    "RefineMode",
    "Retrieval",
    "Selected",
]

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
