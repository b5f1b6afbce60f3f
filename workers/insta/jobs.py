"""The entry functions of INSTA's kinds: load inputs, run the method, write artifacts."""

from typing import Any

from shared.jobs.catalog.insta import (
    AlignParams,
    AlignResult,
    DownstreamParams,
    DownstreamResult,
    EvaluateParams,
    EvaluateResult,
    IndexParams,
    IndexResult,
    QueryParams,
    QueryResult,
)
from shared.jobs.context import JobContext
from workers.insta.answers import result_of, write_answer
from workers.insta.assembling import members_of
from workers.insta.encoders import encoder_of
from workers.insta.evaluation import Evaluation
from workers.insta.figures import accuracy_bars, alignment_curves, precision_curves, query_figures
from workers.insta.filtering import Candidates
from workers.insta.index import open_index
from workers.insta.index_file import GRAPH, write_tar
from workers.insta.indexing import Indexing
from workers.insta.many import answer_many
from workers.insta.retrieval import retriever_of, stored_vectors
from workers.insta.selection import asked_of, select, target_warnings
from workers.insta.targets import inline_target
from workers.insta.unpacking import pack_folder


def index(params: IndexParams, ctx: JobContext) -> IndexResult:
    """Embed a library's instructions."""
    indexing = Indexing(params, ctx)
    with ctx.timed("encode"):
        embedded = indexing.run()
    encoder, library = indexing.encoder, indexing.library
    about: dict[str, Any] = {
        "encoder": {"ref": str(params.encoder), "digest": encoder.digest, "max_tokens": encoder.max_tokens,
                    "backend": encoder.backend},
        "refine": params.refine, "original_task_only": params.original_task_only,
    }  # fmt: skip
    linked = None
    if params.graph:
        with ctx.timed("link"):
            linked, about["graph"] = indexing.link(embedded.vectors)
    with ctx.timed("write"):
        members = members_of(library, embedded.vectors, {**about, **indexing.alignment})
        if indexing.alignment:
            members["head.npy"] = indexing.head
        if params.encoder.scheme in ("file", "job"):
            given = ctx.input(params.encoder)
            members["encoder.tar"] = pack_folder(given) if given.is_dir() else given  # an upload may go, an index stays
        if linked is not None:
            members[GRAPH] = linked
        if embedded.samples is not None:
            members["samples.npy"] = embedded.samples
        with ctx.artifact("index.tar") as out:
            write_tar(out, members)
    manifest = members["manifest.json"]
    assert isinstance(manifest, dict)
    return IndexResult(
        tasks=len(library.tasks), instructions=len(embedded.vectors), encoded=embedded.encoded, reused=embedded.reused,
        duplicates=embedded.duplicates, truncated=embedded.truncated,
        empty_instructions=indexing.dropped.empty_instructions, tasks_left_out=len(indexing.dropped.tasks),
        categories=len({task.category for task in library.tasks} - {None}), dimensions=encoder.dimensions,
        encoder=encoder.digest, backend=encoder.backend, version=manifest["version"],
    )  # fmt: skip


def query(params: QueryParams, ctx: JobContext) -> QueryResult:
    """Rank the library's tasks for a target, or for many."""
    opened = open_index(params.index, ctx)
    retriever = retriever_of(opened)
    if params.queries is not None:
        return answer_many(retriever, params, ctx)
    target = inline_target(params, opened)
    asked = asked_of(retriever, Candidates(opened, params.filters), target, params)
    encoder = encoder_of(opened, ctx)  # last: loading costs seconds, and what is wrong is known by now
    if target.number is not None:
        vectors = stored_vectors(opened, target.number)
    else:
        vectors = retriever.vectors([target], encoder, params.method == "data_sample")[0]
    selection = select(retriever, target, vectors, asked, params)
    selection.warnings[:0] = target_warnings(target, encoder)
    write_answer(ctx, selection, params, opened)
    if params.figures:
        for name, figure in query_figures(opened, target, selection).items():
            ctx.write_json(name, figure)
    ctx.progress(1, 1, "queries")
    return result_of(selection, opened)


def evaluate(params: EvaluateParams, ctx: JobContext) -> EvaluateResult:
    """Measure rankings against known relations."""
    result = Evaluation(params, open_index(params.index, ctx), ctx).run()
    ctx.write_json("precision.plotly.json", precision_curves(result.figures, params.ks))
    return result


def align(params: AlignParams, ctx: JobContext) -> AlignResult:
    """Align an index to its library's style."""
    from workers.insta.aligned_index import result_of as aligned_result  # torch: not for the cpu pool's kinds
    from workers.insta.aligned_index import write_aligned
    from workers.insta.alignment import Alignment

    alignment = Alignment(params, open_index(params.index, ctx), ctx)
    with ctx.timed("train"):
        model = alignment.run()
    version = write_aligned(alignment, model, ctx)
    progress = alignment.progress
    ctx.write_json("alignment.plotly.json", alignment_curves(progress.losses, progress.seen, progress.unseen))
    return aligned_result(alignment, params, version)


def downstream(params: DownstreamParams, ctx: JobContext) -> DownstreamResult:
    """Tune small models on the selected tasks, and on baselines' selections."""
    from workers.insta.downstream import Downstream  # torch

    study = Downstream(params, open_index(params.index, ctx), ctx)
    with ctx.timed("train"):
        result = study.run()
    accuracies: dict[str, list[float]] = {}
    for line in study.scores():
        accuracies.setdefault(line["method"], []).append(line["accuracy"])
    ctx.write_json("accuracy.plotly.json", accuracy_bars(accuracies))
    return result
