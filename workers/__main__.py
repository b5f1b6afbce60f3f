"""`python -m workers worker --pool POOL` serves a pool; `python -m workers run KIND …` runs one job in this process."""

from typing import Annotated

import typer

from shared.settings import Settings

cli = typer.Typer(add_completion=False, no_args_is_help=True)


@cli.command()
def worker(
    pool: Annotated[str, typer.Option(help="The pool to serve: cpu, gpu, sim, or an outside package's own.")],
    slots: Annotated[int, typer.Option(min=1, help="Jobs at once; one child process each.")] = 1,
) -> None:
    """Serve a pool until SIGTERM."""
    from workers.app import run_worker

    run_worker(pool, slots, Settings())


if __name__ == "__main__":
    cli()
