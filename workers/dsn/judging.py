"""`dsn.judge`: verdicts on given answers, the votes, and how right they are against human labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from shared.jobs.catalog.dsn.judging import JudgeAbout, JudgeParams, JudgeResult, StoredVerdicts
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.metrics.verdicts import auroc_soft, cohen_kappa
from shared.settings import Settings
from workers.dsn.judges import Item
from workers.dsn.opening import Panel
from workers.dsn.responses import Row, is_positive, read_rows
from workers.dsn.scoring import agreement_of, pairwise_kappa, rate_of, with_votes
from workers.dsn.votes import AGGREGATES, Verdict, shapley_shares, vote_counts

BATCH = 100  # items between checkpoints


@dataclass
class Judged:
    """Verdicts of all judges on the rows that count."""

    verdicts: dict[str, list[Verdict]]
    scores: dict[str, list[float | None]]
    voters: list[str]
    labels: list[bool] | None
    dropped: int
    annotators: float | None
    about: list[JudgeAbout]
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def all(self) -> dict[str, list[Verdict]]:
        return with_votes(self.verdicts, self.voters)

    @cached_property
    def counts(self) -> list[int | None]:
        """Votes for success per item."""
        return vote_counts(self.verdicts, self.voters) if self.voters else []


def judge_rows(params: JudgeParams, ctx: JobContext, settings: Settings) -> Judged:
    """Read, judge, and drop partial refusals as the policy says."""
    numbered = read_rows(ctx.input(params.responses), _needed(params))
    rows = [row for _, row in numbered]
    labels = [_label(row, params, line) for line, row in numbered]
    kept = [i for i, label in enumerate(labels) if params.label is None or label is not None]
    chosen = [rows[i] for i in kept]
    if not chosen:
        raise InvalidInput("responses: every row is a partial refusal, and partial is drop")
    stored = {one.judge: [_stored(row[one.column], one) for row in chosen] for one in params.verdicts}
    panel = Panel(params, ctx, settings)
    fresh, scores = _judge(panel, chosen, ctx) if params.judges else ({}, {})
    said = Judged(
        {**fresh, **stored}, scores, [*panel.voters, *(one.judge for one in params.verdicts if one.votes)],
        [bool(labels[i]) for i in kept] if params.label else None, len(rows) - len(kept), _annotators(rows, params),
        [*panel.about(), *(_about(one) for one in params.verdicts)],
    )  # fmt: skip
    said.warnings = _warnings(said)
    return said


def result_of(said: Judged, params: JudgeParams) -> JudgeResult:
    everyone = said.all
    kappa = pairwise_kappa(said.verdicts) | ({"annotators": said.annotators} if params.annotators else {})
    agreement, shares, soft = {}, None, None
    if said.labels is not None:
        counts: list[float | None] = [None if c is None else float(c) for c in said.counts]
        for name, verdicts in everyone.items():
            scores = counts if name in AGGREGATES else said.scores.get(name)
            agreement[name] = agreement_of(verdicts, said.labels, scores)
        shares = shapley_shares(said.verdicts, said.voters, said.labels)
        judged = [i for i, c in enumerate(said.counts) if c is not None]
        soft = auroc_soft([float(said.counts[i] or 0) for i in judged], [said.labels[i] for i in judged])
    return JudgeResult(
        items=len(next(iter(said.verdicts.values()))), positive=sum(said.labels) if said.labels else None,
        dropped=said.dropped, partial=params.partial, judges=said.about,
        rates={name: rate_of(verdicts) for name, verdicts in everyone.items()}, agreement=agreement, kappa=kappa,
        shapley=shares, vote_auroc_soft=soft, warnings=said.warnings,
    )  # fmt: skip


def _needed(params: JudgeParams) -> dict[str, str]:
    texts = {"goal": "which judges read", "response": "which judges read"} if params.judges else {}
    labels = {params.label: "the label"} if params.label else {}
    annotators = dict.fromkeys(params.annotators or [], "an annotator's label")
    return texts | labels | annotators | {one.column: f"the verdicts of {one.judge}" for one in params.verdicts}


def _label(row: Row, params: JudgeParams, line: int) -> bool | None:
    return is_positive(row[params.label], params.partial, line) if params.label else None


def _stored(value: str, one: StoredVerdicts) -> Verdict:
    if value in one.success:
        return True
    return False if value in one.fail else None


def _judge(
    panel: Panel, rows: Sequence[Row], ctx: JobContext
) -> tuple[dict[str, list[Verdict]], dict[str, list[float | None]]]:
    """Batch after batch; a checkpoint holds verdicts and scores, no text."""
    verdicts: dict[str, list[Verdict]] = {name: [] for name in panel.named}
    scores: dict[str, list[float | None]] = {name: [] for name in panel.named}
    if restored := ctx.restored():
        verdicts, scores = restored.state["verdicts"], restored.state["scores"]
        panel.unavailable |= restored.state["unavailable"]
    done = len(next(iter(verdicts.values())))
    ctx.progress(done, len(rows), "items")
    for start in range(done, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        items = [Item(f"item{start + i}", row["goal"], row["response"]) for i, row in enumerate(batch)]
        for name, found in panel.judge(items).items():
            verdicts[name] += [judged.verdict for judged in found]
            scores[name] += [judged.score for judged in found]
        ctx.progress(start + len(batch), len(rows), "items")
        ctx.checkpoint({"verdicts": verdicts, "scores": scores, "unavailable": panel.unavailable})
    return verdicts, {name: column for name, column in scores.items() if any(s is not None for s in column)}


def _annotators(rows: Sequence[Row], params: JudgeParams) -> float | None:
    if params.annotators is None:
        return None
    first, second = params.annotators
    return cohen_kappa([row[first] for row in rows], [row[second] for row in rows])


def _about(one: StoredVerdicts) -> JudgeAbout:
    return JudgeAbout(name=one.judge, type="column", votes=one.votes, stand_in=False, unavailable=None)


def _warnings(said: Judged) -> list[str]:
    warnings = []
    if len(said.voters) < 2:
        warnings.append("fewer than two judges have a vote: there is no ensemble verdict")
    if said.labels is not None and len(set(said.labels)) < 2:
        warnings.append("all labels are of one class: AUROC and Shapley shares are undefined")
    for name, verdicts in said.verdicts.items():
        if missing := sum(v is None for v in verdicts):
            warnings.append(f"{name} abstains from {missing} of {len(verdicts)} items")
    warnings += [f"{judge.name} only knows the colour world" for judge in said.about if judge.stand_in]
    return warnings


def verdict_table(said: Judged) -> str:
    """verdicts.csv: a line per item, a column per judge and vote; no text."""
    everyone, words = said.all, {True: "success", False: "fail", None: "abstain"}
    lines = [",".join(["item", *(["label"] if said.labels is not None else []), *everyone])]
    for number in range(len(next(iter(everyone.values())))):
        label = [words[said.labels[number]]] if said.labels is not None else []
        lines.append(",".join([str(number + 1), *label, *(words[column[number]] for column in everyone.values())]))
    return "\n".join(lines) + "\n"
