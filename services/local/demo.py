"""`./tenfold demo`: start the cluster, run the tour through its HTTP API, print what it measured, stop the cluster."""

import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.client import ClientError, Job, Tenfold
from services.local.cluster import Cluster
from services.local.errors import CannotStart
from services.local.tour import Stop, TourFailed, stops

POLL_S = 0.2
INTERRUPTED = 130
"""The exit code of a program ended by Ctrl-C."""


def run_demo(cluster: Cluster, out: Console, *, keep: bool, methods: Sequence[str] = ()) -> int:
    """The exit code: 0 when every job of the tour, or of these methods' stops, succeeded. Raises CannotStart."""
    chosen = _stops_of(methods)
    for ending in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal too leaves nothing running
        signal.signal(ending, signal.default_int_handler)
    was_running = cluster.is_supervised()
    started = time.monotonic()
    try:
        with out.status("starting the cluster"):
            cluster.up()
        out.print(f"The cluster is up at {cluster.url} after {time.monotonic() - started:.1f} s.")
        with Tenfold(cluster.url, patience_s=30) as tenfold:
            Tour(tenfold, out).run(chosen)
        _print_places(cluster, out)
    except (TourFailed, ClientError) as failure:
        out.print(f"[red]The tour stopped:[/] {failure}")
        return 1
    except KeyboardInterrupt:
        out.print("Interrupted.")
        return INTERRUPTED
    finally:
        if not keep and not was_running:
            with out.status("stopping the cluster"):
                cluster.down()
    out.print(f"Done in {time.monotonic() - started:.0f} s.{_afterwards(keep or was_running)}")
    return 0


def _stops_of(methods: Sequence[str]) -> list[Stop]:
    """The stops of these methods; all of them when none is named."""
    known = [stop.method for stop in stops()]
    if unknown := [method for method in methods if method not in known]:
        raise CannotStart(f"the tour has no stop of {', '.join(unknown)}; it has: {', '.join(known)}")
    return [stop for stop in stops() if not methods or stop.method in methods]


class Tour:
    """Runs the stops one after another and collects what they measured."""

    def __init__(self, tenfold: Tenfold, out: Console) -> None:
        self.tenfold = tenfold
        self.out = out

    def run(self, stops: Sequence[Stop]) -> None:
        table = Table("method", "what", "measured", "value", title="What the tour measured")
        for stop in stops:
            self.out.rule(stop.title)
            for row in stop.run(self.tenfold, self._follow):
                table.add_row(stop.method, *row)
            table.add_section()
        self.out.print(table)

    def _follow(self, jobs: Sequence[Job]) -> list[Job]:
        """Progress bars until all jobs are final; a tour that is interrupted cancels what it has begun."""
        finished: dict[str, Job] = {}
        with _bars(self.out) as bars:
            shown = {job.id: bars.add_task(_label(job), total=None, says=job.state) for job in jobs}
            try:
                while len(finished) < len(jobs):
                    for job_id, task in shown.items():
                        if job_id not in finished:
                            self._look(job_id, bars, task, finished)
                    time.sleep(POLL_S)
            except BaseException:
                self._cancel(job_id for job_id in shown if job_id not in finished)
                raise
        return [_succeeded(finished[job.id]) for job in jobs]

    def _look(self, job_id: str, bars: Progress, task: TaskID, finished: dict[str, Job]) -> None:
        job = self.tenfold.job(job_id)
        if job.progress and job.progress.total:
            bars.update(task, completed=job.progress.done, total=job.progress.total)
        bars.update(task, says=_says(job))
        if job.is_final:
            total = job.progress.total if job.progress and job.progress.total else 1
            bars.update(task, completed=total, total=total)
            finished[job_id] = job

    def _cancel(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            with suppress(ClientError):
                self.tenfold.cancel(job_id)


def _bars(out: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[says]}"))
    return Progress(*columns, TimeElapsedColumn(), console=out)


def _label(job: Job) -> str:
    return f"{job.kind} · {job.name}" if job.name else job.kind


def _says(job: Job) -> str:
    return job.progress.unit if job.state == "running" and job.progress else job.state


def _succeeded(job: Job) -> Job:
    if not job.has_succeeded:
        why = job.error.message if job.error else job.state
        raise TourFailed(f"{_label(job)} ({job.id}) {job.state}: {why}")
    return job


def _print_places(cluster: Cluster, out: Console) -> None:
    places = {
        "the API and its pages": f"{cluster.url}/docs",
        "workers and tasks (Flower)": f"http://127.0.0.1:{cluster.settings.ports.flower}",
        "artifacts: figures, tables, logs": cluster.settings.artifact_root,
        "logs of the processes": str(cluster.layout.logs),
    }
    out.print("Where to look:")
    for what, where in places.items():  # never cut: addresses are there to be copied
        out.print(f"  {what:34}{where}", soft_wrap=True, highlight=False, markup=False)


def _afterwards(runs_on: bool) -> str:
    return " The cluster runs on; `./tenfold down` stops it." if runs_on else " Nothing is left running."
