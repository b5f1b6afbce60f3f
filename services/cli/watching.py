"""`tenfold watch | logs`: a job while it runs, from its event stream."""

import time
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.options import PATIENCE_S, AsJson, JobId, connect
from services.client import Job, Tenfold

FAILED = 1
LOG_POLL_S = 0.5


def add_to(app: typer.Typer) -> None:
    app.command()(watch)
    app.command()(logs)


def watch(job_id: JobId, as_json: AsJson = False) -> None:
    """A live progress bar until the job ends; exit code 0 only if it succeeded. With --json: one event a line."""
    with connect() as tenfold:
        job = tenfold.job(job_id)
        tenfold.patience_s = PATIENCE_S
        if as_json:
            job = _print_events(tenfold, job_id)
        else:
            job = watch_job(tenfold, job)
            typer.echo(f"{job.id} {job.state}{f': {job.error.message}' if job.error else ''}")
    if not job.has_succeeded:
        raise typer.Exit(FAILED)


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the job ends.")] = False,
) -> None:
    """The job's log so far."""
    with connect() as tenfold:
        offset = _print_log(tenfold, job_id, 0)
        tenfold.patience_s = PATIENCE_S
        while follow:
            is_final = tenfold.job(job_id).is_final
            offset = _print_log(tenfold, job_id, offset)
            if is_final:
                return
            time.sleep(LOG_POLL_S)


def watch_job(tenfold: Tenfold, job: Job, *, quiet: bool = False) -> Job:
    """The job once it is final; its progress on stderr meanwhile."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[says]}"),
        TimeElapsedColumn(), console=Console(stderr=True), disable=quiet,
    )  # fmt: skip
    with bar:
        task = bar.add_task(job.kind, total=None, says=job.state)
        for event in tenfold.events(job.id):
            if event.type == "progress":
                done, total = event.data.get("done", 0), event.data.get("total") or None
                says = f"{event.data.get('unit', '')} {event.data.get('message', '')}".strip()
                bar.update(task, completed=done, total=total, says=says)
            elif event.type == "state":
                bar.update(task, says=str(event.data.get("state", "")))
            elif event.type == "log":
                bar.console.print(str(event.data.get("message", "")), markup=False, highlight=False)
    return tenfold.wait(job.id)


def _print_events(tenfold: Tenfold, job_id: str) -> Job:
    for event in tenfold.events(job_id):
        typer.echo(event.model_dump_json())
    return tenfold.wait(job_id)


def _print_log(tenfold: Tenfold, job_id: str, offset: int) -> int:
    """Print what the log holds from `offset` on; the offset after it."""
    text = tenfold.log_bytes(job_id, offset=offset)
    typer.echo(text, nl=False)
    return offset + len(text)
