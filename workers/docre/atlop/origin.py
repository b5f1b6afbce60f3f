"""What training starts from: a bare encoder, or a trained model to go on from; and the teacher of self-training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from shared.jobs.catalog.docre.models import TrainParams
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.llm.model_folder import model_folder
from shared.relations.documents import Document
from workers.docre.atlop.model import Atlop, AtlopScorer, Shape, new_atlop
from workers.docre.atlop.wordpieces import Pieces, word_pieces
from workers.docre.model_file import open_model
from workers.docre.pairs import Relations


class Origin(NamedTuple):
    """A model, and the folder that its configuration and tokenizer came from."""

    scorer: AtlopScorer
    folder: Path


def origin(params: TrainParams, relations: Relations, ctx: JobContext) -> Origin:
    """The model before the first step. Raises InvalidInput."""
    if params.start is None:
        folder = model_folder(params.encoder, ctx, ctx.cache_dir / "models").path
        shape = Shape(
            relations.size,
            params.emb_size,
            params.block_size,
            params.model == "dreeam",
            params.max_len,
            params.max_sent,
        )
        return Origin(new_atlop(folder, shape), folder)
    model = open_model(params.start, ctx, "start")
    if model.about.model != params.model:
        raise InvalidInput(f"start ({params.start}) is a model {model.about.model}, not {params.model}; say model so")
    assert isinstance(model.scorer, AtlopScorer)
    return Origin(model.scorer, model.folder)


def teacher(ref: Ref, ctx: JobContext, documents: Sequence[Document], pieces: Sequence[Pieces]) -> Atlop:
    """The teacher's model, without dropout and gradients. Raises InvalidInput where it reads text otherwise."""
    with torch.random.fork_rng():  # making it draws numbers, which are not the student's
        model = open_model(ref, ctx, "teacher")
    if model.about.model != "dreeam":
        raise InvalidInput(
            f"teacher ({ref}) is a model {model.about.model}, which has learned no evidence; give a dreeam"
        )
    scorer: Any = model.scorer
    for number, (document, own) in enumerate(zip(documents, pieces, strict=True)):
        if word_pieces(document, scorer.tokenizer, scorer.model.shape.max_len).ids != own.ids:
            raise InvalidInput(
                f"teacher ({ref}) cuts document {number} ({document.title[:80]!r}) into other word pieces; give the "
                "encoder and max_len that it was trained with"
            )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: Atlop = scorer.model.to(device).eval()
    return found.requires_grad_(False)
