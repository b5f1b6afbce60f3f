"""The entry functions of DSN's kinds: load inputs, run the method, write artifacts."""

from shared.jobs.catalog.dsn.attacks import EvaluateParams, TransferParams
from shared.jobs.catalog.dsn.cards import EvaluateResult, TransferResult
from shared.jobs.catalog.dsn.judging import JudgeParams, JudgeResult
from shared.jobs.context import JobContext
from shared.settings import Settings
from workers.dsn.withholding import withholds_text


@withholds_text
def evaluate(params: EvaluateParams, ctx: JobContext) -> EvaluateResult:
    """Attack, control, judge and defend one model of the list."""
    from workers.dsn.evaluation import Evaluation  # torch

    return Evaluation(params, ctx).run()


@withholds_text
def judge(params: JudgeParams, ctx: JobContext) -> JudgeResult:
    """Judge given answers, and score the judges against labels."""
    from workers.dsn.figures import judge_figures
    from workers.dsn.judging import judge_rows, result_of, verdict_table

    said = judge_rows(params, ctx, Settings())
    result = result_of(said, params)
    ctx.write_json("metrics.json", result.model_dump(mode="json"))
    ctx.write_text("verdicts.csv", verdict_table(said))
    for name, figure in judge_figures(said, result.agreement, result.kappa).items():
        ctx.write_json(name, figure)
    return result


@withholds_text
def transfer(params: TransferParams, ctx: JobContext) -> TransferResult:
    """Try stored suffixes on another model of the list."""
    from workers.dsn.transferring import run_transfer  # torch

    return run_transfer(params, ctx)
