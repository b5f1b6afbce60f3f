"""What a verb prints: tables and words for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

WIDE = 10_000
"""Columns where the output is no terminal: a table that goes into a pipe is never cut."""


def console() -> Console:
    """Where tables go."""
    return Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=WIDE, highlight=False)


def complain(message: str) -> None:
    """One line on stderr."""
    typer.echo(f"tenfold: {message}", err=True)


def print_json(value: BaseModel | Sequence[BaseModel] | dict[str, Any]) -> None:
    """The cluster's own words, indented."""
    if isinstance(value, BaseModel):
        plain: Any = value.model_dump(mode="json")
    elif isinstance(value, dict):
        plain = value
    else:
        plain = [item.model_dump(mode="json") for item in value]
    typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console().print(table)


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line; those without a value are left out."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in pairs:
        if value not in (None, "", {}, []):
            table.add_row(name, value if isinstance(value, str) else str(value))
    console().print(table)


def age(moment: datetime | None) -> str:
    """How long ago, in one unit: 12 s, 5 min, 3 h, 2 d."""
    if moment is None:
        return ""
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
