"""What pins a model of the red-team list: a digest of everything that decides what it says."""

import hashlib
from pathlib import Path

from shared.jobs.context import digest_of

DECIDING = {".safetensors", ".json", ".jinja", ".model", ".txt"}


def weight_digest(path: Path) -> str:
    """SHA-256 over weights, configuration, tokenizer and template of a folder, by name; of a file, its own."""
    if path.is_file():
        return digest_of(path)[0]
    sha = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.suffix in DECIDING:
            digest, size = digest_of(file)
            sha.update(f"{file.relative_to(path).as_posix()}\0{size}\0{digest}\n".encode())
    return sha.hexdigest()
