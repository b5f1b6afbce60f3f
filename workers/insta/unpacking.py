"""An encoder's folder that comes packed as a tar, unpacked once per digest; and packed to travel with an index."""

import io
import os
import secrets
import shutil
import tarfile
from pathlib import Path

from shared.jobs.errors import InvalidInput
from shared.models.folder import describe_folder


def unpack_folder(path: Path, digest: str, cache: Path, name: str) -> Path:
    """The folder that holds config.json. Raises InvalidInput."""
    folder = cache / digest
    if not folder.exists():
        fresh = folder.with_name(f".{digest[:16]}.{secrets.token_hex(4)}")
        fresh.mkdir(parents=True)
        try:
            with tarfile.open(path) as tar:
                tar.extractall(fresh, filter="data")
            os.rename(fresh, folder)
        except (tarfile.TarError, EOFError):
            raise InvalidInput(f"{name} is no packed folder; pack the encoder's folder as .tar") from None
        except OSError:
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    roots = sorted(folder.rglob("modules.json")) or sorted(folder.rglob("config.json"))
    return min(roots, key=lambda file: len(file.parts)).parent if roots else folder


def pack_folder(folder: Path) -> bytes:
    """Equal files give equal bytes: fixed order, no times, no owners."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                add_file(tar, file.relative_to(folder).as_posix(), file.read_bytes())
    return out.getvalue()


def add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """With a fixed owner and no time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def digest_of_packed(packed: bytes, work_dir: Path) -> str:
    """The digest that an encoder has once it is unpacked."""
    path = work_dir / "packed-encoder.tar"
    path.write_bytes(packed)
    return describe_folder(unpack_folder(path, "packed-encoder", work_dir, "encoder.tar")).digest
