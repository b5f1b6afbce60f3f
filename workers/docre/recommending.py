"""What to recommend: a candidate of probability p is shown iff showing it costs less than leaving it out.

Shown, it costs (1 − p)·c_del; not shown, p·c_add: so p > c_del / (c_add + c_del). With equal costs that is p > 0.5, not
the margin of the best F1, whose lists cost more steps than no list at all.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from shared.jobs.catalog.docre.models import Effort, RecommendParams, RecommendResult
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.metrics.relations import Fact, Prediction, facts_of
from shared.relations.documents import Document, Triple, read_documents
from shared.relations.effort import EditSteps, edit_steps, reduction
from workers.docre.adaptive_threshold import margins
from workers.docre.calibration import Calibration, calibrate
from workers.docre.decoding import evidence_of, fused_predictions, predictions_of, ranked
from workers.docre.figures import recommendation_figures
from workers.docre.model_file import TrainedModel, open_model
from workers.docre.pairs import PairScores, ordered_pairs, require_labels
from workers.docre.predictions import official
from workers.docre.training import NATIVE_ENOUGH

LINES = "recommendations.jsonl"
PREDICTED = ".predictions"  # a hidden journal
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
        self._facts = None if params.knowledge is None else known_facts(params.knowledge, ctx)
        native = None
        if params.calibration is not None:
            native = read_documents(ctx.input(params.calibration), f"calibration ({params.calibration})")
            require_labels(native, f"calibration ({params.calibration})")
        self._model = open_model(params.model, ctx)
        if params.fusion and self._model.about.fusion_threshold is None:
            raise InvalidInput(
                f"model ({params.model}) was trained without fusion; train it with fusion, or leave it out"
            )
        self._calibrate(native)
        self._at = threshold(params.c_add, params.c_del)

    def _calibrate(self, native: list[Document] | None) -> None:
        about = self._model.about
        if native is not None and len(native) >= NATIVE_ENOUGH:
            scores = self._model.score_all(self._model.as_trained(native), self._params.batch)
            fit = calibrate(ranked(native, scores, self._model.relations, about.num_labels), self._params.method)
            self._fit, self._on, self._count = fit, "native", len(native)
        else:
            self._fit = Calibration.of_json(dict(about.calibration[self._params.method]))
            self._on, self._count = "dev", about.dev_documents

    def run(self) -> RecommendResult:
        tallies = self._tallies()
        predicted = self._ctx.journal(PREDICTED)
        predicted.handle.flush()
        write_lists(self._ctx, predicted.path)
        write_steps(self._ctx, self._documents, tallies, self._at)
        labelled = [tally for tally in tallies if tally["steps"] is not None]
        return RecommendResult(
            documents=len(tallies), recommended=sum(tally["shown"] for tally in tallies), threshold=self._at,
            calibrated_on=self._on, calibration_documents=self._count,
            expected_adds=_mean(tallies, "expected_adds"), expected_deletes=_mean(tallies, "expected_deletes"),
            expected_steps=_mean(tallies, "expected_adds") + _mean(tallies, "expected_deletes"),
            effort=effort(labelled, self._params) if labelled else None,
        )  # fmt: skip

    def _tallies(self) -> list[dict[str, Any]]:
        """What is counted of every document; lists and predictions go to journals on the way."""
        lines, predicted = self._ctx.journal(LINES), self._ctx.journal(PREDICTED)
        restored = self._ctx.restored()
        tallies: list[dict[str, Any]] = restored.state["tallies"] if restored else []
        saved, size = len(tallies), self._params.batch
        while len(tallies) < len(self._documents):
            documents = self._documents[len(tallies) : len(tallies) + size]  # the same batches after a resume
            scored = self._model.scorer.scores_of(self._model.as_trained(documents))
            for document, scores in zip(documents, scored, strict=True):
                line, tally = self._one(document, scores)
                lines.append_json(line)
                predicted.append_json(self._predictions(document, scores))
                tallies.append(tally)
            if len(tallies) - saved >= CHECKPOINT_EVERY:
                self._ctx.checkpoint({"tallies": tallies})
                saved = len(tallies)
            self._ctx.progress(len(tallies), len(self._documents), "documents")
        return tallies

    def _predictions(self, document: Document, scores: PairScores) -> dict[str, Any]:
        """The document's relations at TH, or by fusion, and at the margin of the best F1 on dev."""
        about, relations = self._model.about, self._model.relations
        at_th, at_best = (
            predictions_of(document, scores, relations, about.num_labels, margin, about.evi_thresh)
            for margin in (0.0, about.best_margin)
        )
        if self._params.fusion:
            at_th = self._fused(document, scores)
        return {"predictions": official(at_th), "predictions_at_best": official(at_best)}

    def _fused(self, document: Document, scores: PairScores) -> list[Prediction]:
        from workers.docre.atlop.fusion import fused_labels

        about = self._model.about
        (known,) = self._model.as_trained([document])
        labels = fused_labels(known, scores, self._model.scorer, about.evi_thresh, self._params.batch)
        threshold = about.fusion_threshold or 0.0
        return fused_predictions(document, scores, labels, self._model.relations, threshold, about.evi_thresh)

    def _one(self, document: Document, scores: PairScores) -> tuple[dict[str, Any], dict[str, Any]]:
        """A document's line, and what is counted of it."""
        candidates = candidates_of(document, scores, self._model, self._fit)
        recommended = shown(candidates, self._at, self._params.max_recommendations)
        adds, deletes = expected(candidates, recommended)
        thresholds = np.linspace(0, 1, CURVE_POINTS)
        costs = [expected(candidates, shown(candidates, at, self._params.max_recommendations)) for at in thresholds]
        tally: dict[str, Any] = {
            "shown": len(recommended), "expected_adds": adds, "expected_deletes": deletes,
            "curve": [cost.adds + cost.deletes for cost in costs], "steps": None,
        }  # fmt: skip
        if document.labels is not None:
            lists = self._lists(document, candidates, recommended)
            tally |= {name: list(edit_steps(own, document.triples)) for name, own in lists.items()}
        return {"title": document.title, "recommendations": [each.as_json() for each in recommended]}, tally

    def _lists(
        self, document: Document, candidates: Sequence[Candidate], recommended: Sequence[Candidate]
    ) -> dict[str, set[Triple]]:
        """The lists that an annotator might start from, ours and those to compare with."""
        cuts = {"at_th": 0.0, "at_best": self._model.about.best_margin}
        lists = {name: {c.triple for c in candidates if c.score > cut} for name, cut in cuts.items()}
        lists["steps"] = {candidate.triple for candidate in recommended}
        if self._facts is not None:
            lists["knowledge"] = facts_by_name(document, self._facts)
        return lists


def known_facts(ref: Ref, ctx: JobContext) -> frozenset[Fact]:
    """The labelled facts of documents, by name: a stand-in for a knowledge base. Raises InvalidInput."""
    documents = read_documents(ctx.input(ref), f"knowledge ({ref})")
    require_labels(documents, f"knowledge ({ref})")
    return facts_of(documents)


def facts_by_name(document: Document, facts: frozenset[Fact]) -> set[Triple]:
    """Every fact whose two names are names of two of the document's entities."""
    entities: dict[str, set[int]] = {}
    for number, entity in enumerate(document.entities):
        for mention in entity:
            entities.setdefault(mention.name, set()).add(number)
    return {
        Triple(h, t, relation)
        for head, tail, relation in facts
        if head in entities and tail in entities
        for h in entities[head]
        for t in entities[tail]
        if h != t
    }


# After the last document ----------------------------------------------------------------------------------------------


def effort(tallies: Sequence[dict[str, Any]], params: RecommendParams) -> Effort:
    """Mean edit steps over documents with labels, beside scratch and the other lists."""
    steps = [EditSteps(*tally["steps"]) for tally in tallies]
    scratch = fmean(each.scratch for each in steps)
    mean = fmean(each.steps for each in steps)
    weighted = fmean(each.cost(params.c_add, params.c_del) for each in steps)
    knowledge = _mean_steps(tallies, "knowledge") if params.knowledge is not None else None
    return Effort(
        documents=len(steps), scratch=scratch, deletes=fmean(each.deletes for each in steps),
        adds=fmean(each.adds for each in steps), steps=mean, reduction=reduction(mean, scratch), weighted=weighted,
        weighted_scratch=params.c_add * scratch, weighted_reduction=reduction(weighted, params.c_add * scratch),
        knowledge_steps=knowledge, knowledge_reduction=None if knowledge is None else reduction(mean, knowledge),
        at_th_steps=_mean_steps(tallies, "at_th"), best_f1_steps=_mean_steps(tallies, "at_best"),
    )  # fmt: skip


def _mean_steps(tallies: Sequence[dict[str, Any]], name: str) -> float:
    return fmean(EditSteps(*tally[name]).steps for tally in tallies)


def write_lists(ctx: JobContext, journal: Path) -> None:
    """`predictions.json` and `predictions_at_best.json`: the official list of all documents."""
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    for name in ("predictions", "predictions_at_best"):
        ctx.write_json(f"{name}.json", [each for line in lines for each in line[name]])


def write_steps(
    ctx: JobContext, documents: Sequence[Document], tallies: Sequence[dict[str, Any]], chosen: float
) -> None:
    """The curve of expected steps over the threshold, and `steps.jsonl`: each labelled document's edit steps."""
    labelled = [
        (document, EditSteps(*tally["steps"]))
        for document, tally in zip(documents, tallies, strict=True)
        if tally["steps"] is not None
    ]
    scratch = fmean(steps.scratch for _, steps in labelled) if labelled else None
    curve = np.mean([tally["curve"] for tally in tallies], axis=0).tolist()
    thresholds = np.linspace(0, 1, CURVE_POINTS).tolist()
    for name, figure in recommendation_figures(thresholds, curve, chosen, scratch).items():
        ctx.write_json(name, figure)
    rows = [{"title": document.title, **steps._asdict()} for document, steps in labelled]
    ctx.write_text("steps.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _mean(tallies: Sequence[dict[str, Any]], name: str) -> float:
    return fmean(tally[name] for tally in tallies)
