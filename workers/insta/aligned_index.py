"""A new version of an index after alignment: the same library with a head, or with new vectors and their encoder."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.jobs.catalog.insta import AlignParams, AlignResult
from shared.jobs.context import JobContext
from workers.insta.aligned import Aligned, Full, Head
from workers.insta.alignment import Alignment
from workers.insta.assembling import members_of, with_version
from workers.insta.index import Index
from workers.insta.index_file import GRAPH, MEMBERS, Member, write_tar
from workers.insta.library import Library
from workers.insta.unpacking import digest_of_packed


def write_aligned(alignment: Alignment, model: Aligned, ctx: JobContext) -> str:
    """index.tar (and encoder.tar, if all of the encoder was trained); the new version."""
    index, params = alignment.index, alignment.params
    about = {"recipe": alignment.recipe_name, "train": params.train, "of": index.version, "seed": params.seed}
    if isinstance(model, Full):
        members = _with_encoder(index, model, about, ctx)
    else:
        assert isinstance(model, Head)
        members = _with_head(index, model, about)
    with ctx.artifact("index.tar") as out:
        write_tar(out, members)
    manifest = members["manifest.json"]
    assert isinstance(manifest, dict)
    return str(manifest["version"])


def _with_head(index: Index, model: Head, about: dict[str, Any]) -> dict[str, Member]:
    members: dict[str, Member] = {
        name: index.folder / name for name in MEMBERS if (index.folder / name).exists() and name != GRAPH
    }  # fmt: skip
    matrix = model.matrix
    said = {key: value for key, value in index.manifest.items() if key != "graph"}  # links vectors without a head
    manifest = {**said, "alignment": {**about, "norm": float(np.linalg.norm(matrix.astype(np.float64)))}}
    return {**members, "head.npy": matrix, "manifest.json": with_version(manifest)}


def _with_encoder(index: Index, model: Full, about: dict[str, Any], ctx: JobContext) -> dict[str, Member]:
    packed = model.packed()
    with ctx.artifact("encoder.tar") as out:
        out.write(packed)
    said = {**index.manifest["encoder"], "ref": "encoder.tar", "digest": digest_of_packed(packed, ctx.work_dir)}
    kept = {key: index.manifest[key] for key in ("refine", "original_task_only")}
    vectors = model.vectors().astype(np.float16)
    library = Library(list(index.tasks()))
    members = members_of(library, vectors, {**kept, "encoder": said, "alignment": about})
    if index.samples is not None:
        members["samples.npy"] = _samples(index.samples, library, model)
    return {**members, "encoder.tar": packed}


def _samples(before: NDArray[np.float16], library: Library, model: Full) -> NDArray[np.float16]:
    """(T, d) the examples that the index had, by the trained encoder."""
    texts = {number: task.example.text for number, task in enumerate(library.tasks)
             if task.example is not None and before[number].any()}  # fmt: skip
    samples = np.zeros_like(before)
    samples[list(texts)] = model.encode(list(texts.values()))
    return samples


def result_of(alignment: Alignment, params: AlignParams, version: str) -> AlignResult:
    """What the validated training did."""
    progress, validation = alignment.progress, alignment.validation
    heldout = validation.compare(alignment.before, alignment.validated, validation.heldout)
    unseen = validation.compare(alignment.before, alignment.validated, validation.unseen)
    warnings = []
    if alignment.relations.column == "instruction":
        warnings.append(
            "validated by finding the other instructions of a data set: without categories nothing says whether "
            "kinds of task are told apart"
        )
    if unseen.after.ndcg is not None and unseen.before.ndcg is not None and unseen.after.ndcg < unseen.before.ndcg:
        warnings.append(
            f"unseen categories lose: nDCG@10 {unseen.before.ndcg:.3f} before, {unseen.after.ndcg:.3f} after; raise "
            "penalty or train fewer steps"
        )
    return AlignResult(
        recipe=alignment.recipe_name, train=params.train, steps=alignment.validated_recipe.steps,
        examples=alignment.validated_recipe.examples, forced_negatives=alignment.validated_recipe.forced,
        loss_first=progress.losses[0] if progress.losses else None,
        loss_last=progress.losses[-1] if progress.losses else None, dev_pearson=alignment.dev_pearson(),
        chosen_epoch=alignment.chosen_epoch, heldout=heldout, unseen=unseen,
        unseen_categories=alignment.split.unseen_names[:100], warnings=warnings, index_version=version,
    )  # fmt: skip
