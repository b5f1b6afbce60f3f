"""`./tenfold up | down | status | demo`: the embedded cluster from a terminal."""

import json
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from services.local.cluster import Cluster
from services.local.demo import run_demo
from services.local.errors import CannotStart
from services.local.health import Health
from shared.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
out = Console()
COLOURS = {"healthy": "green", "starting": "yellow", "unhealthy": "red"}
err = Console(stderr=True, soft_wrap=True, highlight=False)


@app.command()
def up(
    redteam: Annotated[bool, typer.Option("--redteam", help="Let callers on this machine submit dsn.* jobs.")] = False,
) -> None:
    """Start the cluster; return once it answers. It runs on until `down`."""
    cluster = Cluster(Settings(), redteam=redteam)
    cluster.up()
    flower = cluster.settings.ports.flower
    typer.echo(f"Tenfold is up: {cluster.url} · Flower http://127.0.0.1:{flower} · data {cluster.layout.data}")


@app.command()
def down() -> None:
    """Stop the cluster; running jobs go back to their queue. Returns when every process is gone."""
    typer.echo("Tenfold is down." if Cluster(Settings()).down() else "Tenfold was not running.")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Each process, its port and its health. Exit code 0 only when all are healthy."""
    lines = Cluster(Settings()).status()
    if as_json:
        typer.echo(json.dumps([line._asdict() for line in lines], indent=2))
    else:
        out.print(_table(lines))
    raise typer.Exit(0 if all(line.is_healthy for line in lines) else 1)


@app.command()
def demo(
    methods: Annotated[list[str] | None, typer.Argument(help="Only these methods' stops; all when none.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster running afterwards.")] = False,
) -> None:
    """Start the cluster if it isn't up, run the tour through its HTTP API, stop what was started."""
    running = Cluster(Settings())  # one that runs keeps its settings; the demo's own attacks the stand-in only
    cluster = running if running.is_supervised() else Cluster(Settings(), redteam="stand_in")
    raise typer.Exit(run_demo(cluster, out, keep=keep, methods=methods or ()))


def _table(lines: list[Health]) -> Table:
    table = Table("process", "pid", "port", "health", "", box=None)
    for line in lines:
        colour = COLOURS[line.word]
        port = str(next(iter(line.ports.values()), ""))
        table.add_row(line.name, str(line.pid or ""), port, f"[{colour}]{line.word}[/]", line.says)
    return table


def main() -> None:
    """Run; what can't be done ends with one sentence."""
    try:
        app()
    except CannotStart as reason:
        err.print(f"tenfold: {reason}", markup=False)
        raise SystemExit(1) from None
    except ValidationError as invalid:
        for error in invalid.errors():
            err.print(f"tenfold: TENFOLD_{'_'.join(map(str, error['loc'])).upper()}: {error['msg']}", markup=False)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
