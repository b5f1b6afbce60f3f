"""The entry functions of DocRE transfer's kinds: load inputs, run the method, write artifacts."""

import asyncio

from shared.jobs.catalog.docre.evaluation import EvaluateParams, EvaluateResult
from shared.jobs.catalog.docre.models import RecommendParams, RecommendResult, TrainParams, TrainResult
from shared.jobs.catalog.docre.prompting import LlmParams, LlmResult
from shared.jobs.catalog.docre.transfer import MergeParams, TransferParams, TransferResult
from shared.jobs.context import JobContext
from shared.llm.models import open_models
from shared.settings import Settings
from workers.docre.evaluating import Evaluation
from workers.docre.linear_job import LinearJob
from workers.docre.merging import merge_parts
from workers.docre.prompting import Prompting
from workers.docre.recommending import Recommending
from workers.docre.reporting import write_outcome
from workers.docre.sharded import ShardedTransfer
from workers.docre.training import conclude, load_data, with_model


def transfer(params: TransferParams, ctx: JobContext) -> TransferResult:
    """Translate documents with their annotations."""
    sharded = ShardedTransfer(params, ctx)
    with ctx.timed("transfer"):
        records = sharded.run()
    return write_outcome(ctx, records, sharded.manifest)


def merge(params: MergeParams, ctx: JobContext) -> TransferResult:
    """Join the parts of a dataset."""
    return merge_parts(params, ctx)


def train(params: TrainParams, ctx: JobContext) -> TrainResult:
    """Learn relations from documents."""
    params = with_model(params, ctx)
    data = load_data(params, ctx)
    with ctx.timed("train"):
        if params.model == "linear":
            learned = LinearJob(params, data, ctx).run()
        else:
            from workers.docre.atlop.training import EncoderJob  # torch and transformers: seconds

            learned = EncoderJob(params, data, ctx).run()
    return conclude(learned, data, params, ctx)


def evaluate(params: EvaluateParams, ctx: JobContext) -> EvaluateResult:
    """Measure predictions, and the gap between native and transferred training."""
    return Evaluation(params, ctx).run()


def recommend(params: RecommendParams, ctx: JobContext) -> RecommendResult:
    """Propose relations on native documents."""
    with ctx.timed("recommend"):
        return Recommending(params, ctx).run()


def llm(params: LlmParams, ctx: JobContext) -> LlmResult:
    """Extract relations with a chat model in context."""
    prompting = Prompting(params, ctx)

    async def ask() -> LlmResult:
        async with open_models({params.model}, ctx, Settings()) as models:
            return await prompting.run(models[params.model])

    with ctx.timed("ask"):
        return asyncio.run(ask())
