"""`docre.train` as a job: what is trained on, the epochs, and what is said of the model that is kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.jobs.catalog.docre.models import Baseline, DevFigures, Figures, TrainParams, TrainResult
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.metrics.relations import PRF, Prediction, by_distance, facts_of, judge, parts, score
from shared.relations.documents import Document, read_documents
from workers.docre.baselines import most_frequent_relations, predict_most_frequent
from workers.docre.calibration import Calibration, calibrate, reliability
from workers.docre.decoding import FusedLabel, best_margin, curve, fused_predictions, predictions_of, ranked
from workers.docre.figures import training_figures
from workers.docre.inventories import with_jacred_types
from workers.docre.model_file import About, open_about, write_model
from workers.docre.pairs import PairScores, Relations, require_known, require_labels
from workers.docre.predictions import numbered, official

METHODS = ("isotonic", "platt")
NATIVE_ENOUGH = 20  # documents: fewer can't calibrate


@dataclass(frozen=True)
class TrainingData:
    """Documents to learn from and to choose by."""

    train: list[Document]
    dev: list[Document]
    relations: Relations


class Fusion(NamedTuple):
    """Inference-stage fusion on dev: each document's labels, and the threshold of the best F1."""

    labels: Mapping[int, Sequence[FusedLabel]]
    threshold: float


@dataclass(frozen=True)
class Learned:
    """What a training loop leaves: the best epoch's scores of dev, its files, and the curves."""

    dev_scores: Mapping[int, PairScores]
    members: Mapping[str, bytes]
    losses: Sequence[float]
    dev_f1: Sequence[float]
    best_epoch: int
    pairs: int
    truncated: int = 0
    architecture: Mapping[str, Any] | None = None
    fusion: Fusion | None = None


def with_model(params: TrainParams, ctx: JobContext) -> TrainParams:
    """Params that name their model: linear, dreeam where this worker has a GPU, or what the job began with."""
    if params.model is not None:
        return params
    restored = ctx.restored()
    began = restored.state["model"] if restored else "dreeam" if _has_gpu() else "linear"
    return params.model_copy(update={"model": began})


def _has_gpu() -> bool:
    if not Path("/proc/driver/nvidia/version").exists():
        return False  # torch, which takes seconds, need not be asked
    import torch

    return torch.cuda.is_available()


def load_data(params: TrainParams, ctx: JobContext) -> TrainingData:
    """Train, dev and inventory. Raises InvalidInput naming document and field."""
    train = _labelled(params.train, "train", params, ctx)
    if params.dev is not None:
        dev = _labelled(params.dev, "dev", params, ctx)
    else:
        held = np.random.default_rng([params.seed, 1]).permutation(len(train))
        cut = max(1, round(params.dev_share * len(train)))
        if cut >= len(train):
            raise InvalidInput(
                f"train ({params.train}) holds {len(train)} documents: too few to hold some out; give dev"
            )
        train, dev = [train[n] for n in sorted(held[cut:])], [train[n] for n in sorted(held[:cut])]
        require_labels(train, "train")
    dev = numbered(dev)
    relations = _inventory(params, train, ctx)
    if params.relations is not None or params.start is not None:
        for documents, name in ((train, "train"), (dev, "dev")):
            require_known(documents, relations.ids, name)
    return TrainingData(train, dev, relations)


def _inventory(params: TrainParams, train: Sequence[Document], ctx: JobContext) -> Relations:
    """A model that goes on keeps its relations; else those that are given, else those that train has."""
    if params.start is not None:
        return Relations(open_about(params.start, ctx, "start")[0].relations)
    if params.relations is not None:
        return Relations(tuple(sorted(read_inventory(ctx.input(params.relations), f"relations ({params.relations})"))))
    return Relations.of(train)


def _labelled(ref: Any, name: str, params: TrainParams, ctx: JobContext) -> list[Document]:
    documents = read_documents(ctx.input(ref), f"{name} ({ref})")
    require_labels(documents, f"{name} ({ref})")
    return with_jacred_types(documents) if params.types == "jacred" else documents


def read_inventory(path: Path, name: str) -> dict[str, str]:
    """Relation ids with their names: `{names: …}`, `{rel2id: …}`, `rel2id.json` or `rel_info.json`; Na is none."""
    try:
        value = json.loads(path.read_bytes())
        value = value.get("names") or value.get("rel2id") or value
        found = {str(relation): str(about) for relation, about in value.items() if relation not in ("Na", "NA")}
    except (ValueError, AttributeError):
        raise InvalidInput(f"{name} is no JSON object of relation ids") from None
    if not found:
        raise InvalidInput(f"{name} holds no relation")
    return found


# After the last epoch -------------------------------------------------------------------------------------------------


def conclude(learned: Learned, data: TrainingData, params: TrainParams, ctx: JobContext) -> TrainResult:
    """Margins, calibration, baseline; the model's file, predictions and figures."""
    candidates = ranked(data.dev, learned.dev_scores, data.relations, params.num_labels)
    points = curve(candidates)
    best = best_margin(points)
    margin = best.margin if best else 0.0
    fits = {method: calibrate(candidates, method) for method in METHODS}  # type: ignore[arg-type]
    at_th, at_best = (_predictions(learned, data, params, at) for at in (0.0, margin))
    fusion = learned.fusion
    about = About(
        model=params.model or "linear", relations=data.relations.ids, num_labels=params.num_labels,
        evi_thresh=params.evi_thresh,
        best_margin=margin, calibration={name: fit.as_json() for name, fit in fits.items()},
        dev_documents=len(data.dev), architecture=learned.architecture, types=params.types,
        fusion_threshold=None if fusion is None else fusion.threshold,
    )  # fmt: skip
    write_model(ctx, about, learned.members)
    ctx.write_json("predictions.json", official(at_best))
    table = _table(fits["isotonic"], candidates.margins, candidates.is_gold)
    ctx.write_json("calibration.json", {"on": "dev", "fits": about.calibration, "reliability": table})
    th = best_margin([point for point in points if point.margin > 0][-1:])
    for name, figure in training_figures(learned.losses, learned.dev_f1, points, th, table).items():
        ctx.write_json(name, figure)
    return TrainResult(
        model=params.model or "linear", documents=len(data.train), dev_documents=len(data.dev),
        relations=len(data.relations.ids), pairs=learned.pairs, loss=learned.losses[-1], best_epoch=learned.best_epoch,
        at_th=_figures(at_th, data, 0.0), at_best=_figures(at_best, data, margin),
        fused=None if fusion is None else _fused(fusion, learned, data, params), baseline=_baseline(at_best, data),
        calibration=f"{len(data.dev)} dev documents", truncated=learned.truncated,
    )  # fmt: skip


def _predictions(learned: Learned, data: TrainingData, params: TrainParams, margin: float) -> list[Prediction]:
    return [
        prediction
        for n, document in enumerate(data.dev)
        for prediction in predictions_of(
            document, learned.dev_scores[n], data.relations, params.num_labels, margin, params.evi_thresh
        )
    ]


def _fused(fusion: Fusion, learned: Learned, data: TrainingData, params: TrainParams) -> DevFigures:
    found = [
        prediction
        for n, document in enumerate(data.dev)
        for prediction in fused_predictions(
            document, learned.dev_scores[n], fusion.labels[n], data.relations, fusion.threshold, params.evi_thresh
        )
    ]
    return _figures(found, data, fusion.threshold)


def _table(fit: Calibration, margins: Any, truth: Any) -> list[dict[str, float]]:
    return reliability(fit.probability(margins), truth)


def _figures(predictions: Sequence[Prediction], data: TrainingData, margin: float) -> DevFigures:
    found = score(judge(predictions, data.dev), facts_of(data.train))
    return DevFigures(
        margin=margin, relation=_prf(found.relation), ign_p=found.ign.p, ign_f1=found.ign.f1, evi_f1=found.evidence.f1
    )


def _prf(found: PRF) -> Figures:
    return Figures(p=found.p, r=found.r, f1=found.f1)


def _baseline(predictions: Sequence[Prediction], data: TrainingData) -> Baseline:
    table = most_frequent_relations(data.train)
    everywhere = predict_most_frequent(data.dev, table, same_sentence=False)
    near = predict_most_frequent(data.dev, table, same_sentence=True)
    return Baseline(
        all_pairs=_prf(score(judge(everywhere, data.dev)).relation),
        same_sentence=_same_sentence(near, data.dev), model_same_sentence=_same_sentence(predictions, data.dev),
    )  # fmt: skip


def _same_sentence(predictions: Sequence[Prediction], documents: Sequence[Document]) -> Figures:
    intra = parts(judge(predictions, documents), by_distance).get("intra")
    return Figures(p=0, r=0, f1=0) if intra is None else _prf(score(intra).relation)
