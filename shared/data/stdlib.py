"""Real text that every machine has: the source of Python's own standard library, its top-level modules.

Every 20th of the sorted files from the 11th on is held out. `write_training` and `write_held_out` are the makers of
`builtin:stdlib` and `builtin:stdlib-valid`.
"""

import platform
import sysconfig
from pathlib import Path

VERSION = f"v1-py{platform.python_version()}"


def files() -> list[Path]:
    """The modules, sorted by name."""
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def write_training(path: Path) -> None:
    """All but the held-out files, one after another."""
    _write(path, [file for number, file in enumerate(files()) if number % 20 != 10])


def write_held_out(path: Path) -> None:
    _write(path, files()[10::20])


def _write(path: Path, parts: list[Path]) -> None:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
