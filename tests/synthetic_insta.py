"""An unpacked index of any number of tasks, for what depends on size alone."""

import json
from pathlib import Path

import numpy as np

from workers.insta.index_file import FORMAT_VERSION


def synthetic_index(folder: Path, tasks: int, d: int = 8, each: int = 1) -> Path:
    """The unpacked folder of an index with so many tasks of `each` instructions; vectors are zeros."""
    out = folder / f"synthetic-{tasks}-{each}"
    out.mkdir()
    texts = [json.dumps([f"Task {{0}}.{' ' * way}" for way in range(each)])] * tasks
    lines = [f'{{"id": "task{number:07}", "instructions": {text.replace("{0}", str(number))}}}\n'.encode()
             for number, text in enumerate(texts)]  # fmt: skip
    (out / "tasks.jsonl").write_bytes(b"".join(lines))
    arrays = {
        "vectors": np.zeros((tasks * each, d), np.float16), "offsets": np.arange(tasks + 1) * each,
        "lines": np.cumsum([0, *map(len, lines)]), "order": np.arange(tasks, dtype=np.int32),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(out / f"{name}.npy", array)
    (out / "manifest.json").write_text(json.dumps({"format_version": FORMAT_VERSION, "version": "synthetic"}))
    return out
