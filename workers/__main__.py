"""`python -m workers worker --pool POOL` serves a pool; `python -m workers run KIND …` runs one job in this process."""

from pathlib import Path
from typing import Annotated

import typer

from shared.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True)


@cli.command()
def worker(
    pool: Annotated[str, typer.Option(help="The pool to serve: cpu, gpu, sim, or an outside package's own.")],
    slots: Annotated[int, typer.Option(min=1, help="Jobs at once; one child process each.")] = 1,
    name: Annotated[str | None, typer.Option(help="The worker's name on this machine; by default the pool's.")] = None,
    exit_when_idle: Annotated[
        float | None, typer.Option(min=1, help="Stop by itself after so many seconds without a job; for autoscaling.")
    ] = None,
) -> None:
    """Serve a pool until SIGTERM, or until it has been idle for long enough."""
    from workers.app import run_worker

    run_worker(pool, slots, name, Settings(), exit_when_idle)


@cli.command()
def run(
    kind: str,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="key=value; dots go deeper.")] = None,
    params: Annotated[Path | None, typer.Option(help="A JSON file of params.")] = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", help="reference=path of an input.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where artifacts go.")] = Path("out"),
) -> None:
    """Run one job here, with no cluster; running it again after a kill resumes it."""
    from workers.local_run import run_here

    raise typer.Exit(run_here(kind, params, param or [], inputs or [], out))


if __name__ == "__main__":
    cli()
