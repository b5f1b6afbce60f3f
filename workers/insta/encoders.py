"""The encoder behind a reference, resident in the worker: loading costs seconds, a query milliseconds."""

import tarfile
from functools import lru_cache
from pathlib import Path

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.models.folder import describe_folder
from shared.models.sentence_encoder import Backend, BackendMissing, SentenceEncoder, can_run
from workers.insta.index import Index
from workers.insta.unpacking import unpack_folder

OWN = "encoder.tar"  # in an index's folder: an encoder trained for it
RESIDENT = 2  # encoders per process


def open_encoder(ref: Ref, backend: str, max_tokens: int, ctx: JobContext) -> SentenceEncoder:
    """The encoder of a job, from a folder or one packed as .tar. Raises InvalidInput."""
    return load(folder_of(ref, ctx), backend, max_tokens, ctx.cache_dir / "encoders", str(ref))


def folder_of(ref: Ref, ctx: JobContext) -> Path:
    """The folder behind a reference, unpacked if it came as .tar. Raises InvalidInput."""
    path = ctx.input(ref)
    if path.is_dir():
        return path
    return unpack_folder(path, ctx.input_digest(ref), ctx.cache_dir / "encoders", str(ref))


@lru_cache(maxsize=2 * RESIDENT)
def digest_of_folder(folder: Path, name: str) -> str:
    """The digest of the encoder in a folder, whose weights are read but not loaded. Raises InvalidInput."""
    try:
        return describe_folder(folder).digest
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}") from None


def encoder_of(index: Index, ctx: JobContext) -> SentenceEncoder:
    """The encoder that an index was made with, for its queries. Raises InvalidInput when this worker's differs."""
    said = index.manifest["encoder"]
    backend = said["backend"] if can_run(said["backend"]) else "best"
    if (index.folder / OWN).exists():
        name = index.name
        folder = unpack_folder(index.folder / OWN, said["digest"], ctx.cache_dir / "encoders", name)
    else:
        name = said["ref"]
        folder = folder_of(Ref(name), ctx)
    digest = digest_of_folder(folder, name)
    if digest != said["digest"]:
        raise InvalidInput(
            f"mixed encoders: the index was made with {said['ref']} of digest {said['digest'][:12]}, this worker's has "
            f"{digest[:12]}; index the library again, or bring back the encoder's files"
        )
    return load(folder, backend, said["max_tokens"], ctx.cache_dir / "encoders", name)


@lru_cache(maxsize=RESIDENT)
def load(folder: Path, backend: str, max_tokens: int, cache: Path, name: str) -> SentenceEncoder:
    """Kept in the process. Raises InvalidInput."""
    wanted: Backend | None = None if backend == "best" else backend  # type: ignore[assignment]
    if wanted == "openvino-bf16" and can_run("openvino-f32") and not can_run(wanted):
        raise InvalidInput(
            "backend openvino-bf16: this processor doesn't compute in bfloat16; ask for best or openvino-f32"
        )
    try:
        return SentenceEncoder.load(folder, wanted, max_tokens, cache / "openvino")
    except (ValueError, BackendMissing, tarfile.TarError) as error:
        raise InvalidInput(f"{name}: {error}") from None
