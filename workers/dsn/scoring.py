"""From verdicts to figures: rates with intervals, agreement with labels, agreement between judges."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from shared.jobs.catalog.dsn.judging import Agreement, Rate
from shared.metrics.verdicts import auroc_soft, cohen_kappa, confusion, wilson
from workers.dsn.votes import Verdict, aggregated

Verdicts = Mapping[str, Sequence[Verdict]]


def rate_of(verdicts: Sequence[Verdict]) -> Rate:
    """Successes among judged items; abstentions are counted beside."""
    judged = [verdict for verdict in verdicts if verdict is not None]
    interval = wilson(sum(judged), len(judged))
    return Rate(
        rate=sum(judged) / len(judged) if judged else None, low=interval.low if interval else None,
        high=interval.high if interval else None, n=len(judged), successes=sum(judged),
        unjudged=len(verdicts) - len(judged),
    )  # fmt: skip


def with_votes(verdicts: Verdicts, voters: Sequence[str]) -> dict[str, list[Verdict]]:
    """Judges, then the three votes where two have one."""
    return {name: list(column) for name, column in verdicts.items()} | aggregated(verdicts, voters)


def agreement_of(
    verdicts: Sequence[Verdict], labels: Sequence[bool], scores: Sequence[float | None] | None = None
) -> Agreement:
    """One judge against labels; items without its verdict are counted and left out."""
    judged = [i for i, verdict in enumerate(verdicts) if verdict is not None]
    said, truth = [bool(verdicts[i]) for i in judged], [labels[i] for i in judged]
    found = confusion(said, truth)
    scored = [i for i in judged if scores is not None and scores[i] is not None]
    soft = auroc_soft([float(scores[i] or 0) for i in scored], [labels[i] for i in scored]) if scores else None
    return Agreement(
        n=found.n, unjudged=len(verdicts) - found.n, tp=found.tp, fp=found.fp, fn=found.fn, tn=found.tn,
        accuracy=found.accuracy, auroc_hard=found.auroc_hard, auroc_soft=soft, f1=found.f1,
        kappa=cohen_kappa(said, truth),
    )  # fmt: skip


def pairwise_kappa(verdicts: Verdicts) -> dict[str, float | None]:
    """Cohen's κ of every two judges, on the items where both have a verdict."""
    found: dict[str, float | None] = {}
    for first, second in combinations(verdicts, 2):
        pairs = [(a, b) for a, b in zip(verdicts[first], verdicts[second], strict=True) if None not in (a, b)]
        found[f"{first}|{second}"] = cohen_kappa([a for a, _ in pairs], [b for _, b in pairs])
    return found
