"""A model as one tar of a Hugging Face folder, and tables as CSV."""

import csv
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.models.llama import Llama
from shared.models.llama_checkpoint import save_llama
from workers.layerskip.tokenising import FILE, Tokens


def model_files(model: Llama, tokens: Tokens) -> dict[str, bytes]:
    """The folder's files by name."""
    return {**save_llama(model), FILE: tokens.packed()}


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """One uncompressed tar, the same bytes for the same files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def csv_of(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table; what is undefined is an empty cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
