"""`tenfold sweep`: a grid of jobs as one."""

from typing import Annotated

import typer

from services.cli.assignments import grid_of, labels_of, merged, params_of, seeds_of
from services.cli.options import (
    AsJson,
    Assignments,
    Labels,
    MaxAttempts,
    Name,
    ParamsFile,
    Priority,
    TimeoutS,
    connect,
)
from services.cli.output import age, print_json, print_pairs, print_table
from services.client import Sweep


def add_to(app: typer.Typer) -> None:
    app.command()(sweep)
    app.command()(sweeps)
    app.command()(cancel_sweep)


def sweep(  # one parameter per option: that is how typer reads them
    kind: Annotated[str, typer.Argument(metavar="KIND", show_default=False)],
    assignments: Assignments = None,
    params: ParamsFile = None,
    grid: Annotated[
        list[str] | None, typer.Option("--grid", metavar="FIELD=V1,V2", help="Values to try. Repeats: the product.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="1,2,5 or 1-10", help="Each point once per seed.")
    ] = None,
    name: Name = None,
    label: Labels = None,
    priority: Priority = None,
    max_attempts: MaxAttempts = None,
    timeout_s: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Submit every combination of the grid's values as jobs, all or none; prints the sweep's id."""
    given = params_of(params, assignments or [])
    options = merged({
        "name": name, "labels": labels_of(label or []), "priority": priority, "max_attempts": max_attempts,
        "timeout_s": timeout_s,
    })  # fmt: skip
    values, numbers = grid_of(grid or []), seeds_of(seeds)
    if not values and not numbers:
        raise typer.BadParameter("a sweep needs --grid or --seeds")
    with connect() as tenfold:
        submitted = tenfold.submit_sweep(kind, given, grid=values, seeds=numbers, **options)
    if as_json:
        print_json(submitted)
    else:
        typer.echo(submitted.id)


def sweeps(
    sweep_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Show this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """The sweeps, or one of them, with its jobs by state."""
    with connect() as tenfold:
        found: Sweep | list[Sweep] = tenfold.sweep(sweep_id) if sweep_id else tenfold.sweeps()
    if as_json:
        print_json(found)
    elif isinstance(found, Sweep):
        print_pairs([("sweep", found.id), ("name", found.name), ("kind", found.kind), ("jobs", _counts(found))])
    else:
        rows = [(s.id, s.kind, s.name, _counts(s), age(s.created_at)) for s in found]
        print_table(("id", "kind", "name", "jobs", "age"), rows)


def cancel_sweep(
    sweep_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Cancel every unfinished job of a sweep."""
    with connect() as tenfold:
        sweep = tenfold.cancel_sweep(sweep_id)
    if as_json:
        print_json(sweep)
    else:
        typer.echo(f"{sweep.id} {_counts(sweep)}")


def _counts(sweep: Sweep) -> str:
    return ", ".join(f"{count} {state}" for state, count in sweep.states.items() if count) or f"{sweep.total} jobs"
