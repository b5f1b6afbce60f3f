"""`tenfold get | upload`: files out of the cluster and into it."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from services.cli.options import PATIENCE_S, AsJson, JobId, connect
from services.cli.output import print_json, print_table, size
from services.client import Artifact, Tenfold


def add_to(app: typer.Typer) -> None:
    app.command()(get)
    app.command()(upload)


def get(
    job_id: JobId,
    artifact: Annotated[str | None, typer.Argument(metavar="[ARTIFACT]", help="Without: list them.")] = None,
    folder: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Where to; without ARTIFACT: all of them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List a job's artifacts; with a name, or -o DIR for all of them, fetch them, checked by digest."""
    with connect() as tenfold:
        wanted = [tenfold.artifact(job_id, artifact)] if artifact else tenfold.artifacts(job_id)
        if artifact is None and folder is None:
            _list(wanted, as_json)
            return
        tenfold.patience_s = PATIENCE_S
        target = folder or Path()
        target.mkdir(parents=True, exist_ok=True)
        for item in wanted:
            typer.echo(_fetch(tenfold, job_id, item, target))


def upload(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)],
    as_json: AsJson = False,
) -> None:
    """Store a file in the cluster; prints the reference to use in parameters."""
    with connect() as tenfold:
        stored = tenfold.upload(file)
    if as_json:
        print_json(stored)
    else:
        typer.echo(stored.ref)


def _list(artifacts: list[Artifact], as_json: bool) -> None:
    if as_json:
        print_json(artifacts)
    else:
        print_table(("artifact", "size", "type"), [(a.name, size(a.bytes), a.media_type) for a in artifacts])


def _fetch(tenfold: Tenfold, job_id: str, artifact: Artifact, folder: Path) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(artifact.name, total=artifact.bytes)
        return tenfold.download(job_id, artifact.name, folder, advance=lambda count: bar.advance(task, count))
