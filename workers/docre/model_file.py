"""A trained model as one file: `model.tar` with its weights, relations, margins and calibration."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.relations.documents import Document
from workers.docre.inventories import with_jacred_types
from workers.docre.linear import LinearModel, packed_arrays, unpacked_arrays
from workers.docre.packing import pack, unpacked
from workers.docre.pairs import PairScores, Relations

MODEL = "model.tar"
ABOUT, WEIGHTS = "about.json", "weights.npz"


class Scorer(Protocol):
    """Anything that scores all pairs of documents."""

    def scores_of(self, documents: Sequence[Document]) -> list[PairScores]: ...


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
    """What a fused score must exceed; None: trained without fusion."""
    types: str = "own"
    """Whose entity types the model knows: `own` or `jacred`."""
    architecture: Mapping[str, Any] | None = None
    """Of an encoder model."""


@dataclass(frozen=True)
class TrainedModel:
    """A model ready to score."""

    about: About
    scorer: Scorer
    folder: Path

    @property
    def relations(self) -> Relations:
        return Relations(self.about.relations)

    def score_all(self, documents: Sequence[Document], batch: int) -> dict[int, PairScores]:
        """By number; `batch` documents go through an encoder at once."""
        return dict(enumerate(in_batches(self.scorer, documents, batch)))

    def as_trained(self, documents: list[Document]) -> list[Document]:
        """Documents with the entity types that the model knows."""
        return with_jacred_types(documents) if self.about.types == "jacred" else documents


def in_batches(scorer: Scorer, documents: Sequence[Document], batch: int) -> Iterator[PairScores]:
    for start in range(0, len(documents), batch):
        yield from scorer.scores_of(documents[start : start + batch])


def write_model(ctx: JobContext, about: About, members: Mapping[str, bytes]) -> None:
    with ctx.artifact(MODEL) as out:
        pack(out, {ABOUT: json.dumps(asdict(about), indent=1).encode(), **members})


def linear_members(model: LinearModel) -> dict[str, bytes]:
    return {WEIGHTS: packed_arrays(weights=model.weights)}


def open_model(ref: Ref, ctx: JobContext, field: str = "model") -> TrainedModel:
    """The model behind a reference. Raises InvalidInput."""
    about, folder = open_about(ref, ctx, field)
    return TrainedModel(about, _scorer(about, folder), folder)


def open_about(ref: Ref, ctx: JobContext, field: str) -> tuple[About, Path]:
    """What a model's file says of it, and its folder. Raises InvalidInput naming the field."""
    folder = unpacked(ctx.input(ref), ctx.cache_dir / "docre" / "models", f"{field} ({ref})")
    try:
        return About(**_tuples(json.loads((folder / ABOUT).read_text()))), folder
    except (OSError, ValueError, TypeError):
        raise InvalidInput(f"{field} ({ref}) is no model of docre.train; give job:<train>/{MODEL}") from None


def _tuples(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "relations": tuple(value["relations"])}


def _scorer(about: About, folder: Path) -> Scorer:
    if about.model == "linear":
        return LinearModel(unpacked_arrays((folder / WEIGHTS).read_bytes())["weights"])
    from workers.docre.atlop.model import load_atlop  # torch and transformers: seconds

    return load_atlop(folder, about)
