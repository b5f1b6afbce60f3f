"""JSONL: one object a line, refused with its line number."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.jobs.errors import InvalidInput


def read_records(path: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object). Raises InvalidInput: not UTF-8, no JSON, no object, no line at all."""
    found = False
    for number, raw in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not raw.strip():
            continue
        found = True
        yield number, _object(raw, f"{name} line {number}")
    if not found:
        raise InvalidInput(f"{name} is empty; give JSONL, one object a line")


def _object(raw: bytes, where: str) -> dict[str, Any]:
    try:
        said = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise InvalidInput(f"{where} is not UTF-8; save the file as UTF-8") from None
    except ValueError as error:
        raise InvalidInput(f"{where} is no JSON: {error}") from None
    if not isinstance(said, dict):
        raise InvalidInput(f"{where} is no object; each line is an object {{prompt, response}}")
    return said
