"""A folder, or a folder packed as .tar or .zip: its files, one after the other, in the order of their paths."""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from shared.jobs.errors import InvalidInput

WANTED = (".yaml", ".json")


def is_packed(path: Path) -> bool:
    """Whether a file is an archive, by its content."""
    return zipfile.is_zipfile(path) or (not _is_text(path) and _is_tar(path))


def files_of(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """(path inside, bytes) of every YAML and JSON file. Raises InvalidInput for a damaged archive."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in WANTED and file.is_file())
        yield from ((file.relative_to(path).as_posix(), file.read_bytes()) for file in files)
        return
    try:
        yield from _zipped(path) if zipfile.is_zipfile(path) else _tarred(path)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise InvalidInput(f"{name} is a damaged archive: {error}") from None


def _zipped(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.namelist()):
            if member.endswith(WANTED):
                yield member, archive.read(member)


def _tarred(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        members = [member for member in archive.getmembers() if member.isfile() and member.name.endswith(WANTED)]
        for member in sorted(members, key=lambda member: member.name):
            handle = archive.extractfile(member)
            if handle is not None:
                yield member.name, handle.read()


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, OSError, zlib.error):  # a gzip cut off in its head
        return False


def _is_text(path: Path) -> bool:
    """JSON lines or CSV: asked first, because tarfile's look at a large gzip is slow."""
    with path.open("rb") as handle:
        head = handle.read(512)
    return b"\0" not in head and not head.startswith(b"\x1f\x8b")
