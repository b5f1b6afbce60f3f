"""The entry functions of INSTA's kinds: load inputs, run the method, write artifacts."""

from shared.jobs.catalog.insta import IndexParams, IndexResult
from shared.jobs.context import JobContext
from workers.insta.assembling import members_of
from workers.insta.index_file import write_tar
from workers.insta.indexing import Indexing


def index(params: IndexParams, ctx: JobContext) -> IndexResult:
    """Embed a library's instructions."""
    indexing = Indexing(params, ctx)
    with ctx.timed("encode"):
        embedded = indexing.run()
    encoder, library = indexing.encoder, indexing.library
    about = {
        "encoder": {"ref": str(params.encoder), "digest": encoder.digest, "max_tokens": encoder.max_tokens,
                    "backend": encoder.backend},
        "refine": params.refine, "original_task_only": params.original_task_only,
    }  # fmt: skip
    with ctx.timed("write"):
        members = members_of(library, embedded.vectors, about)
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
