"""The encoder behind a reference, resident in the worker: loading costs seconds, a query milliseconds."""

import tarfile
from functools import lru_cache
from pathlib import Path

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.models.sentence_encoder import Backend, BackendMissing, SentenceEncoder, can_run
from workers.insta.index import Index
from workers.insta.unpacking import unpack_folder

OWN = "encoder.tar"  # in an index's folder: an encoder trained for it
RESIDENT = 2  # encoders per process


def open_encoder(ref: Ref, backend: str, max_tokens: int, ctx: JobContext) -> SentenceEncoder:
    """The encoder of a job, from a folder or one packed as .tar. Raises InvalidInput."""
    path = ctx.input(ref)
    folder = path if path.is_dir() else unpack_folder(path, ctx.input_digest(ref), ctx.cache_dir / "encoders", str(ref))
    return load(folder, backend, max_tokens, ctx.cache_dir / "encoders", str(ref))


def encoder_of(index: Index, ctx: JobContext) -> SentenceEncoder:
    """The encoder that an index was made with, for its queries. Raises InvalidInput when this worker's differs."""
    said = index.manifest["encoder"]
    backend = said["backend"] if can_run(said["backend"]) else "best"
    if (index.folder / OWN).exists():
        folder = unpack_folder(index.folder / OWN, said["digest"], ctx.cache_dir / "encoders", index.name)
        encoder = load(folder, backend, said["max_tokens"], ctx.cache_dir / "encoders", index.name)
    else:
        encoder = open_encoder(Ref(said["ref"]), backend, said["max_tokens"], ctx)
    if encoder.digest != said["digest"]:
        raise InvalidInput(
            f"mixed encoders: the index was made with {said['ref']} of digest {said['digest'][:12]}, this worker's has "
            f"{encoder.digest[:12]}; index the library again, or bring back the encoder's files"
        )
    return encoder


@lru_cache(maxsize=RESIDENT)
def load(folder: Path, backend: str, max_tokens: int, cache: Path, name: str) -> SentenceEncoder:
    """Kept in the process. Raises InvalidInput."""
    wanted: Backend | None = None if backend == "best" else backend  # type: ignore[assignment]
    try:
        return SentenceEncoder.load(folder, wanted, max_tokens, cache / "openvino")
    except (ValueError, BackendMissing, tarfile.TarError) as error:
        raise InvalidInput(f"{name}: {error}") from None
