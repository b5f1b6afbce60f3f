"""A model is a Hugging Face folder, as a `*.tar` where it is a file: weights in safetensors, no pickles, no code."""

import hashlib
import json
import os
import secrets
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

from shared.jobs.context import JobContext, digest_of
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref

CONFIG = "config.json"


class ModelFolder(NamedTuple):
    """Where a model's files lie, and what tells it from every other."""

    path: Path
    digest: str


def model_folder(ref: Ref, ctx: JobContext, cache: Path) -> ModelFolder:
    """The model behind a reference, unpacked into `cache` where it is a tar. Raises InvalidInput."""
    source = ctx.input(ref)
    if source.is_dir():
        found = ModelFolder(source, _digest_of_folder(source))
    else:
        digest, _ = digest_of(source)
        found = ModelFolder(_unpacked(ref, source, cache / digest), digest)
    _check(ref, found.path)
    return found


def _check(ref: Ref, folder: Path) -> None:
    if not (folder / CONFIG).exists():
        raise InvalidInput(f"{ref} holds no {CONFIG}: expected a Hugging Face model folder, packed as one tar")
    if not any(folder.glob("*.safetensors")):
        have = ", ".join(sorted(path.name for path in folder.iterdir()))[:300]
        raise InvalidInput(f"{ref} holds no *.safetensors, and pickled weights are not loaded; it has: {have}")
    try:
        config = json.loads((folder / CONFIG).read_text())
        runs_code = "auto_map" in config
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{ref}: {CONFIG} can't be read: {error}") from None
    if runs_code:
        raise InvalidInput(f"{ref} needs code of its own (auto_map in {CONFIG}), which is not run here")


def _unpacked(ref: Ref, tar: Path, target: Path) -> Path:
    """The folder of a tar's files, once for all jobs: it appears whole or not at all."""
    if not target.exists():
        fresh = target.with_name(f".{target.name[:16]}.{secrets.token_hex(4)}")
        fresh.mkdir(parents=True)
        try:
            with tarfile.open(tar, "r:") as archive:  # uncompressed: it can't unpack to more than it is
                archive.extractall(fresh, filter="data")
            _rename(fresh, target)
        except (tarfile.TarError, OSError) as error:
            raise InvalidInput(f"{ref} is not a tar of a model folder: {error}") from None
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return _holding_config(target)


def _rename(fresh: Path, target: Path) -> None:
    try:
        os.rename(fresh, target)
    except OSError:
        if not target.exists():  # else another process was faster
            raise


def _holding_config(folder: Path) -> Path:
    """The folder itself, or the one folder in it: tars are made both ways."""
    inside = list(folder.iterdir())
    if not (folder / CONFIG).exists() and len(inside) == 1 and inside[0].is_dir():
        return inside[0]
    return folder


def _digest_of_folder(folder: Path) -> str:
    """Of names, sizes and times: enough to notice that an operator replaced a model."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listing = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([str(folder.resolve()), listing]).encode()).hexdigest()
