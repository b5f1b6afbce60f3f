"""Folders packed as tars, unpacked once per machine; equal content gives equal bytes."""

import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from shared.jobs.context import digest_of
from shared.jobs.errors import InvalidInput


def pack(out: IO[bytes], members: Mapping[str, bytes]) -> None:
    """A tar of these files, without times and owners."""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(members.items()):
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))


def unpacked(tar: Path, cache: Path, name: str) -> Path:
    """The folder of a tar's files, whole or not at all. Raises InvalidInput."""
    target = cache / digest_of(tar)[0]
    if target.exists():
        return target
    fresh = target.with_name(f".{target.name[:16]}.{secrets.token_hex(4)}")
    fresh.mkdir(parents=True)
    try:
        with tarfile.open(tar, "r:") as archive:
            archive.extractall(fresh, filter="data")
        os.rename(fresh, target)
    except (tarfile.TarError, OSError) as error:
        if not target.exists():  # else another process was faster
            raise InvalidInput(f"{name} is not a tar: {error}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target
