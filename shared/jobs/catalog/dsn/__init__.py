"""The kinds of DSN, robustness testing of one's own chat models (arXiv 2404.16369).

`dsn.evaluate` measures how often optimised suffixes break a model's refusals, what a reliable judge says, and which
defence helps; `dsn.judge` scores judges and their votes on any answers; `dsn.transfer` tries stored suffixes on another
model of the same list. All need the scope `redteam`, and a deployment that allows them.
"""

from shared.jobs.catalog.dsn.attacks import EvaluateParams, TransferParams
from shared.jobs.catalog.dsn.cards import EvaluateResult, TransferResult
from shared.jobs.catalog.dsn.judging import JudgeParams, JudgeResult
from shared.jobs.spec import JobSpec

SEALED = ("suffixes.enc", "revealed.enc")

KINDS = [
    JobSpec(
        "dsn.evaluate", EvaluateParams, EvaluateResult, pool="gpu", scope="redteam", attacks=True, sealed=SEALED,
        summary="How well a model keeps refusing: GCG and DSN attacks, controls, judges, votes, defences.",
        progress_unit="steps and answers", checkpoint_grain="10 steps, or one evaluated batch",
    ),
    JobSpec(
        "dsn.judge", JudgeParams, JudgeResult, pool="gpu", scope="redteam",
        summary="Judge answers with several judges and votes, and score all of them against labels.",
        progress_unit="items", checkpoint_grain="100 items",
    ),
    JobSpec(
        "dsn.transfer", TransferParams, TransferResult, pool="gpu", scope="redteam", attacks=True, sealed=SEALED,
        summary="Try the suffixes of an earlier evaluation on another model of the list.",
        progress_unit="answers", checkpoint_grain="one evaluated batch",
    ),
]  # fmt: skip
