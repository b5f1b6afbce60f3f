"""What to recommend: a candidate of probability p is shown iff showing it costs less than leaving it out.

Shown, it costs (1 − p)·c_del; not shown, p·c_add: so p > c_del / (c_add + c_del). With equal costs that is p > 0.5, not
the margin of the best F1, whose lists cost more steps than no list at all.
"""

import json
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from shared.jobs.catalog.docre.models import Effort, RecommendParams, RecommendResult
from shared.jobs.context import JobContext
from shared.relations.documents import Document, Triple, read_documents
from shared.relations.effort import EditSteps, edit_steps, reduction
from workers.docre.adaptive_threshold import margins
from workers.docre.calibration import Calibration, calibrate
from workers.docre.decoding import evidence_of, ranked
from workers.docre.figures import recommendation_figures
from workers.docre.model_file import TrainedModel, open_model
from workers.docre.pairs import PairScores, ordered_pairs, require_labels
from workers.docre.training import NATIVE_ENOUGH

LINES = "recommendations.jsonl"
CHECKPOINT_EVERY = 50
CURVE_POINTS = 41


class Candidate(NamedTuple):
    """One relation that might be shown."""

    triple: Triple
    score: float  # l_r − l_TH
    p: float
    evidence: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        h, t, r = self.triple
        return {
            "h": h,
            "t": t,
            "r": r,
            "score": round(self.score, 4),
            "p": round(self.p, 4),
            "evidence": list(self.evidence),
        }


def threshold(c_add: float, c_del: float) -> float:
    return c_del / (c_add + c_del)


def candidates_of(document: Document, scores: PairScores, model: TrainedModel, fit: Calibration) -> list[Candidate]:
    """The best `num_labels` relations of every pair, likeliest first."""
    pairs, above = ordered_pairs(document), margins(scores.logits)
    if not above.size:
        return []
    k = min(model.about.num_labels, above.shape[1])
    top = np.argpartition(-above, k - 1, axis=1)[:, :k]
    rows = np.repeat(np.arange(len(pairs)), k)
    values = above[rows, top.ravel()].astype(np.float64)
    p = fit.probability(values)
    order = np.lexsort((top.ravel(), rows, -values))
    ids = model.about.relations
    return [
        Candidate(
            Triple(int(pairs[rows[n], 0]), int(pairs[rows[n], 1]), ids[top.ravel()[n]]), float(values[n]), float(p[n]),
            evidence_of(scores, rows[n], model.about.evi_thresh),
        )
        for n in order[: 50 * max(len(document.entities), 1)]
    ]  # fmt: skip


def shown(candidates: Iterable[Candidate], at: float, most: int) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.p > at][:most]


class Expected(NamedTuple):
    """What showing a list costs, by its probabilities."""

    adds: float
    deletes: float


def expected(candidates: Sequence[Candidate], recommended: Sequence[Candidate]) -> Expected:
    deletes = sum(1 - candidate.p for candidate in recommended)
    adds = sum(candidate.p for candidate in candidates) - sum(candidate.p for candidate in recommended)
    return Expected(adds, deletes)


class Recommending:
    """One `docre.recommend` job."""

    def __init__(self, params: RecommendParams, ctx: JobContext) -> None:
        self._params, self._ctx = params, ctx
        self._documents = read_documents(ctx.input(params.documents), f"documents ({params.documents})")
        native = None
        if params.calibration is not None:
            native = read_documents(ctx.input(params.calibration), f"calibration ({params.calibration})")
            require_labels(native, f"calibration ({params.calibration})")
        self._model = open_model(params.model, ctx)
        self._calibrate(native)
        self._at = threshold(params.c_add, params.c_del)

    def _calibrate(self, native: list[Document] | None) -> None:
        about = self._model.about
        if native is not None and len(native) >= NATIVE_ENOUGH:
            scores = self._model.score_all(native)
            fit = calibrate(ranked(native, scores, self._model.relations, about.num_labels), self._params.method)
            self._fit, self._on, self._count = fit, "native", len(native)
        else:
            self._fit = Calibration.of_json(dict(about.calibration[self._params.method]))
            self._on, self._count = "dev", about.dev_documents

    def run(self) -> RecommendResult:
        journal = self._ctx.journal(LINES)
        restored = self._ctx.restored()
        tallies: list[dict[str, Any]] = restored.state["tallies"] if restored else []
        for number in range(len(tallies), len(self._documents)):
            line, tally = self._one(self._documents[number])
            journal.append_json(line)
            tallies.append(tally)
            if len(tallies) % CHECKPOINT_EVERY == 0:
                self._ctx.checkpoint({"tallies": tallies})
            self._ctx.progress(len(tallies), len(self._documents), "documents")
        self._write_steps(tallies)
        labelled = [tally for tally in tallies if tally["steps"] is not None]
        return RecommendResult(
            documents=len(tallies), recommended=sum(tally["shown"] for tally in tallies), threshold=self._at,
            calibrated_on=self._on, calibration_documents=self._count,
            expected_adds=_mean(tallies, "expected_adds"), expected_deletes=_mean(tallies, "expected_deletes"),
            expected_steps=_mean(tallies, "expected_adds") + _mean(tallies, "expected_deletes"),
            effort=self._effort(labelled) if labelled else None,
        )  # fmt: skip

    def _one(self, document: Document) -> tuple[dict[str, Any], dict[str, Any]]:
        """A document's line, and what is counted of it."""
        candidates = candidates_of(document, self._model.scorer.scores(document), self._model, self._fit)
        recommended = shown(candidates, self._at, self._params.max_recommendations)
        adds, deletes = expected(candidates, recommended)
        thresholds = np.linspace(0, 1, CURVE_POINTS)
        costs = [expected(candidates, shown(candidates, at, self._params.max_recommendations)) for at in thresholds]
        tally: dict[str, Any] = {
            "shown": len(recommended), "expected_adds": adds, "expected_deletes": deletes,
            "curve": [cost.adds + cost.deletes for cost in costs], "steps": None,
        }  # fmt: skip
        if document.labels is not None:
            lists = {
                "steps": recommended,
                "at_th": [candidate for candidate in candidates if candidate.score > 0],
                "at_best": [candidate for candidate in candidates if candidate.score > self._model.about.best_margin],
            }
            for name, own in lists.items():
                tally[name] = list(edit_steps((candidate.triple for candidate in own), document.triples))
        return {"title": document.title, "recommendations": [each.as_json() for each in recommended]}, tally

    def _effort(self, tallies: Sequence[dict[str, Any]]) -> Effort:
        steps = [EditSteps(*tally["steps"]) for tally in tallies]
        scratch = fmean(each.scratch for each in steps)
        mean = fmean(each.steps for each in steps)
        c_add, c_del = self._params.c_add, self._params.c_del
        weighted = fmean(each.cost(c_add, c_del) for each in steps)
        return Effort(
            documents=len(steps), scratch=scratch, deletes=fmean(each.deletes for each in steps),
            adds=fmean(each.adds for each in steps), steps=mean, reduction=reduction(mean, scratch), weighted=weighted,
            weighted_scratch=c_add * scratch, weighted_reduction=reduction(weighted, c_add * scratch),
            at_th_steps=fmean(EditSteps(*tally["at_th"]).steps for tally in tallies),
            best_f1_steps=fmean(EditSteps(*tally["at_best"]).steps for tally in tallies),
        )  # fmt: skip

    def _write_steps(self, tallies: Sequence[dict[str, Any]]) -> None:
        labelled = [tally for tally in tallies if tally["steps"] is not None]
        scratch = fmean(EditSteps(*tally["steps"]).scratch for tally in labelled) if labelled else None
        curve = np.mean([tally["curve"] for tally in tallies], axis=0).tolist()
        thresholds = np.linspace(0, 1, CURVE_POINTS).tolist()
        for name, figure in recommendation_figures(thresholds, curve, self._at, scratch).items():
            self._ctx.write_json(name, figure)
        rows = [
            {"title": document.title, **EditSteps(*tally["steps"])._asdict()}
            for document, tally in zip(self._documents, tallies, strict=True)
            if tally["steps"] is not None
        ]
        self._ctx.write_text("steps.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _mean(tallies: Sequence[dict[str, Any]], name: str) -> float:
    return fmean(tally[name] for tally in tallies)
