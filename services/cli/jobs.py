"""`tenfold submit | jobs | result | cancel | retry | delete`: jobs, one call each."""

from itertools import islice
from typing import Annotated, cast

import typer

from services.cli.assignments import labels_of, merged, params_of
from services.cli.options import (
    PATIENCE_S,
    AsJson,
    Assignments,
    JobId,
    Labels,
    MaxAttempts,
    Name,
    ParamsFile,
    Priority,
    TimeoutS,
    connect,
)
from services.cli.output import age, print_json, print_pairs, print_table
from services.cli.watching import FAILED, watch_job
from services.client import Job
from services.client.models import State


def add_to(app: typer.Typer) -> None:
    for verb in (submit, jobs, result, cancel, retry, delete):
        app.command()(verb)


def submit(  # one parameter per option: that is how typer reads them
    kind: Annotated[str, typer.Argument(metavar="KIND", show_default=False)],
    assignments: Assignments = None,
    params: ParamsFile = None,
    name: Name = None,
    label: Labels = None,
    priority: Priority = None,
    max_attempts: MaxAttempts = None,
    timeout_s: TimeoutS = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key submits once, for 24 hours.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be submitted.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Watch it until it ends; exit 1 unless it succeeds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job; prints its id."""
    given = params_of(params, assignments or [])
    options = merged({
        "name": name, "labels": labels_of(label or []), "priority": priority, "max_attempts": max_attempts,
        "timeout_s": timeout_s,
    })  # fmt: skip
    with connect() as tenfold:
        if dry_run:
            print_json(tenfold.check(kind, given, **options))
            return
        job = tenfold.submit(kind, given, idempotency_key=idempotency_key, **options)
        if wait:
            tenfold.patience_s = PATIENCE_S
            job = watch_job(tenfold, job, quiet=as_json)
    if as_json:
        print_json(job)
    elif wait:
        _print_result(job)
    else:
        typer.echo(job.id)
    if wait and not job.has_succeeded:
        raise typer.Exit(FAILED)


def jobs(
    kind: Annotated[str | None, typer.Option("--kind")] = None,
    state: Annotated[str | None, typer.Option("--state", help="blocked, queued, running, succeeded, …")] = None,
    label: Labels = None,
    owner: Annotated[str | None, typer.Option("--owner", help="`me` for your own.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Jobs, newest first."""
    with connect() as tenfold:
        every = tenfold.jobs(
            kind=kind, state=cast(State | None, state), labels=labels_of(label or []), owner=owner,
            page_size=min(limit, 200),
        )  # fmt: skip
        found = list(islice(every, limit))
    if as_json:
        print_json(found)
        return
    columns = ("id", "kind", "name", "state", "progress", "attempt", "age")
    print_table(columns, [(j.id, j.kind, j.name, j.state, _progress(j), j.attempt, age(j.created_at)) for j in found])


def result(job_id: JobId, as_json: AsJson = False) -> None:
    """A finished job's result. Exit code 1 when it failed or isn't finished."""
    with connect() as tenfold:
        job = tenfold.job(job_id)
    if as_json and job.has_succeeded:
        print_json(job.result or {})
    else:
        _print_result(job)
    if not job.has_succeeded:
        raise typer.Exit(FAILED)


def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Stop a job that isn't finished."""
    with connect() as tenfold:
        _say(tenfold.cancel(job_id), as_json)


def retry(job_id: JobId, as_json: AsJson = False) -> None:
    """Queue a failed or cancelled job again, from its last checkpoint."""
    with connect() as tenfold:
        _say(tenfold.retry(job_id), as_json)


def delete(job_id: JobId) -> None:
    """Remove a finished job, its record and artifacts."""
    with connect() as tenfold:
        tenfold.delete(job_id)


def _say(job: Job, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        typer.echo(f"{job.id} {job.state}{' (stopping)' if job.cancel_requested_at and not job.is_final else ''}")


def _progress(job: Job) -> str:
    return f"{job.progress.done}/{job.progress.total} {job.progress.unit}" if job.progress else ""


def _print_result(job: Job) -> None:
    """A succeeded job's result on stdout; of any other, what there is to say."""
    if job.has_succeeded:
        print_json(job.result or {})
        return
    error = f"{job.error.type}: {job.error.message}" if job.error else None
    print_pairs([("job", job.id), ("state", job.state), ("progress", _progress(job)), ("error", error)])
