"""`./tenfold bench NAME [--json] [--quick]`: one measurement with its rival beside it, as a table or as JSON.

`tests/bench/bench_<name>.py` has `rows(quick)`, a list of {what, ours, peer, peer_name, unit, ratio, spread, goal};
`ratio` is above 1 where ours is better.
"""

import importlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
COLUMNS = ("what", "ours", "peer", "peer_name", "unit", "ratio", "spread", "goal")


def names() -> list[str]:
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def main(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(names())}.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quick: Annotated[bool, typer.Option(help="A small size, to see that it runs.")] = False,
) -> None:
    """Measure, and print what was measured."""
    if name not in names():
        print(f"there is no measurement {name!r}; known: {', '.join(names())}", file=sys.stderr)
        raise typer.Exit(2)
    rows: list[dict[str, Any]] = importlib.import_module(f"tests.bench.bench_{name}").rows(quick)
    if as_json:
        print(json.dumps({"name": name, "machine": machine(), "rows": rows}, indent=1, ensure_ascii=False))
    else:
        Console().print(_table(name, rows))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    load = os.getloadavg()[0]
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": round(load, 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _table(name: str, rows: list[dict[str, Any]]) -> Table:
    about = machine()
    title = f"{name}: {about['cpu']}, {about['cores']} cores, load {about['load_average']}, Python {about['python']}"
    table = Table(*COLUMNS, title=title)
    for row in rows:
        table.add_row(*("–" if row.get(column) is None else str(row[column]) for column in COLUMNS))
    return table


if __name__ == "__main__":
    typer.run(main)
