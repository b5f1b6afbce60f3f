"""A trained model as one file: `model.tar` with its weights, relations, margins and calibration."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.relations.documents import Document
from workers.docre.linear import LinearModel, packed_arrays, unpacked_arrays
from workers.docre.packing import pack, unpacked
from workers.docre.pairs import PairScores, Relations

MODEL = "model.tar"
ABOUT, WEIGHTS = "about.json", "weights.npz"


class Scorer(Protocol):
    """Anything that scores all pairs of a document."""

    def scores(self, document: Document) -> PairScores: ...


@dataclass(frozen=True)
class About:
    """What a model's user must know."""

    model: str
    relations: tuple[str, ...]
    num_labels: int
    evi_thresh: float
    best_margin: float
    calibration: Mapping[str, Any]
    """By method, fitted on dev."""
    dev_documents: int
    fusion_threshold: float | None = None
    architecture: Mapping[str, Any] | None = None
    """Of an encoder model."""


@dataclass(frozen=True)
class TrainedModel:
    """A model ready to score."""

    about: About
    scorer: Scorer

    @property
    def relations(self) -> Relations:
        return Relations(self.about.relations)

    def score_all(self, documents: Sequence[Document]) -> dict[int, PairScores]:
        return {n: self.scorer.scores(document) for n, document in enumerate(documents)}


def write_model(ctx: JobContext, about: About, members: Mapping[str, bytes]) -> None:
    with ctx.artifact(MODEL) as out:
        pack(out, {ABOUT: json.dumps(asdict(about), indent=1).encode(), **members})


def linear_members(model: LinearModel) -> dict[str, bytes]:
    return {WEIGHTS: packed_arrays(weights=model.weights)}


def open_model(ref: Ref, ctx: JobContext) -> TrainedModel:
    """The model behind a reference. Raises InvalidInput."""
    folder = unpacked(ctx.input(ref), ctx.cache_dir / "docre" / "models", f"model ({ref})")
    try:
        about = About(**_tuples(json.loads((folder / ABOUT).read_text())))
    except (OSError, ValueError, TypeError):
        raise InvalidInput(f"model ({ref}) is no model of docre.train; give job:<train>/{MODEL}") from None
    return TrainedModel(about, _scorer(about, folder))


def _tuples(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "relations": tuple(value["relations"])}


def _scorer(about: About, folder: Path) -> Scorer:
    if about.model == "linear":
        return LinearModel(unpacked_arrays((folder / WEIGHTS).read_bytes())["weights"])
    from workers.docre.atlop.model import load_atlop  # torch and transformers: seconds

    return load_atlop(folder, about)
