"""A file that grows with a job; what was appended before the last checkpoint survives a kill."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO


@dataclass
class Journal:
    """An artifact that only grows. One whose name begins with a dot lasts between attempts and becomes none."""

    name: str
    path: Path
    handle: BinaryIO
    saved_bytes: int = 0  # length at the last checkpoint
    parts: list[str] = field(default_factory=list)  # where the saved segments lie, in order

    @property
    def is_hidden(self) -> bool:
        return self.name.startswith(".")

    def append(self, data: bytes) -> None:
        self.handle.write(data)

    def append_json(self, record: Mapping[str, Any]) -> None:
        self.append(json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n")
