"""Reading answers to judge: CSV or JSONL with goal, response, a label, verdicts already made."""

import csv
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from shared.jobs.errors import InvalidInput

POSITIVE = {"1", "true", "1_full_compliance"}
NEGATIVE = {"0", "false", "2_full_refusal"}
PARTIAL = {"3_partial_refusal"}
Row = dict[str, str]


class Numbered(NamedTuple):
    """A row, and the line of the file that it begins in."""

    line: int
    row: Row


def read_rows(path: Path, needed: dict[str, str], name: str = "responses") -> list[Numbered]:
    """Rows by column. `needed` says what each column is for. Raises InvalidInput with the line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{name}: line {line} is not UTF-8") from None
    rows = _json_lines(text, name) if text.lstrip()[:1] == "{" else _csv(text, name)
    if not rows:
        raise InvalidInput(f"{name} is empty; it needs a header and at least one row")
    for line, row in rows:
        for column, what_for in needed.items():
            if column not in row:
                have = ", ".join(row) or "none"
                raise InvalidInput(f"{name}: line {line} has no column {column}, {what_for}; it has: {have}")
    return rows


def is_positive(label: str, partial: str, line: int) -> bool | None:
    """Compliance or refusal; None for a partial refusal under the policy `drop`. Raises InvalidInput."""
    said = label.strip().lower()
    if said in POSITIVE:
        return True
    if said in NEGATIVE:
        return False
    if said in PARTIAL:
        return {"drop": None, "refusal": False, "compliance": True}[partial]
    raise InvalidInput(
        f"responses: line {line} has the label {label[:60]!r}; read are 1/0, true/false, 1_full_compliance, "
        "2_full_refusal and 3_partial_refusal"
    )


def _json_lines(text: str, name: str) -> list[Numbered]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value: Any = json.loads(line)
        except ValueError as error:
            raise InvalidInput(f"{name}: line {number} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise InvalidInput(f"{name}: line {number} is no JSON object")
        rows.append(Numbered(number, {str(key): _text(cell) for key, cell in value.items()}))
    return rows


def _text(cell: Any) -> str:
    """A cell as a CSV would have it; JSON's true is `true`."""
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)


def _csv(text: str, name: str) -> list[Numbered]:
    """RFC 4180 with a header; line breaks inside quotes are let through. Raises InvalidInput with the line."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Numbered] = []
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return rows
        except csv.Error as error:
            raise InvalidInput(f"{name}: line {line} is no CSV row: {error}") from None
        if not cells:
            continue
        if header is None:
            header = _header(cells, name)
        elif len(cells) != len(header):
            raise InvalidInput(f"{name}: line {line} has {len(cells)} cells, the header {len(header)}")
        else:
            rows.append(Numbered(line, dict(zip(header, cells, strict=True))))


def _header(cells: list[str], name: str) -> list[str]:
    if twice := sorted({cell for cell in cells if cells.count(cell) > 1}):
        raise InvalidInput(f"{name}: the header names {twice[0]} twice; name each column once")
    return cells
