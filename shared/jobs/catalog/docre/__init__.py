"""The kinds of DocRE transfer: a document-level relation dataset in a new language (arXiv 2404.16506).

`docre.transfer` translates a dataset with its annotations, `docre.merge` joins parts of one; `docre.train` learns from
it, `docre.recommend` proposes relations on native documents, `docre.evaluate` measures.
"""

from shared.jobs.catalog.docre.evaluation import EvaluateParams, EvaluateResult
from shared.jobs.catalog.docre.models import RecommendParams, RecommendResult, TrainParams, TrainResult
from shared.jobs.catalog.docre.prompting import LlmParams, LlmResult
from shared.jobs.catalog.docre.transfer import MergeParams, TransferParams, TransferResult
from shared.jobs.spec import JobSpec

KINDS = [
    JobSpec(
        "docre.transfer",
        TransferParams,
        TransferResult,
        pool="cpu",
        summary="Translate a relation dataset with its annotations.",
        progress_unit="documents",
        checkpoint_grain="one shard",
        measured=("shard_timeline.plotly.json",),
    ),
    JobSpec(
        "docre.merge",
        MergeParams,
        TransferResult,
        pool="cpu",
        summary="Join the parts of a transferred dataset.",
        progress_unit="shards",
        checkpoint_grain="none (seconds): starts again",
    ),
    JobSpec(
        "docre.train",
        TrainParams,
        TrainResult,
        pool="gpu",
        summary="Train a document-level relation extraction model.",
        progress_unit="batches",
        checkpoint_grain="linear: an epoch; else 50 batches",
    ),
    JobSpec(
        "docre.evaluate",
        EvaluateParams,
        EvaluateResult,
        pool="cpu",
        summary="Measure predictions, and the gap between transferred and native data.",
        progress_unit="documents",
        checkpoint_grain="none (seconds): starts again",
    ),
    JobSpec(
        "docre.recommend",
        RecommendParams,
        RecommendResult,
        pool="gpu",
        summary="Recommend relations to annotators, and count the edit steps.",
        progress_unit="documents",
        checkpoint_grain="50 documents",
    ),
    JobSpec(
        "docre.llm",
        LlmParams,
        LlmResult,
        pool="cpu",
        summary="Extract relations with a chat model in context.",
        progress_unit="documents",
        checkpoint_grain="each reply",
    ),
]
