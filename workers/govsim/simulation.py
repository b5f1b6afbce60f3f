"""All runs of one condition, chunk by chunk: bounded memory, a line per run, checkpoints between chunks.

How runs are cut into chunks changes no number: draws come from counters and sums are sums of whole numbers.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shared.jobs.catalog.govsim import SimulateParams
from shared.jobs.context import JobContext
from workers.govsim.asking import Counts
from workers.govsim.hosts import HostPool
from workers.govsim.imported import ImportedRun
from workers.govsim.logs import Defaults, read_runs
from workers.govsim.records import describe, lines
from workers.govsim.society import conditions_of, simulate_runs
from workers.govsim.tally import Tally
from workers.govsim.trajectories import measure

RUNS = "runs.jsonl"
CHUNK_CELLS = 1_000_000  # agent-months held at once: about 40 MB, and about a second with its lines
CHECKPOINT_EVERY_S = 2.0
LINES_PER_CHECK = 100  # between two questions whether to stop


class Simulation:
    """The state of one `govsim.simulate` job."""

    def __init__(self, params: SimulateParams, ctx: JobContext) -> None:
        self._params = params
        self._ctx = ctx
        self._chunk = max(1, CHUNK_CELLS // (params.months * params.agents))
        self._said = describe(params)
        self._conditions = conditions_of(params)
        self.tally = Tally(self._conditions)
        self.counts, self.invalid_runs = Counts(), 0  # scripted agents ask nobody
        self._saved_at = time.monotonic()
        self._resume()

    def run(self, hosts: HostPool) -> None:
        """Simulate what is left, then report the mean stock as a curve."""
        total = self._params.runs
        self._ctx.progress(self.tally.runs, total, "runs")
        while (done := self.tally.runs) < total:
            self._add(np.arange(done, min(done + self._chunk, total)), hosts)
            self._ctx.progress(self.tally.runs, total, "runs")
            if time.monotonic() - self._saved_at >= CHECKPOINT_EVERY_S:
                self._save()
        self._ctx.journal(RUNS).handle.flush()
        self._report_curves()

    def _add(self, runs: np.ndarray, hosts: HostPool) -> None:
        batch = simulate_runs(self._params, runs, hosts, self._ctx.check)
        measured = measure(batch, self._conditions)
        heads = [{"run": run} for run in runs.tolist()]
        journal = self._ctx.journal(RUNS)
        for number, line in enumerate(lines(batch, measured, self._conditions, heads, [self._said] * len(heads))):
            journal.append(line)
            if number % LINES_PER_CHECK == 0:
                self._ctx.check()
        self.tally.add(batch, measured)

    def _report_curves(self) -> None:
        for month, left in enumerate((self.tally.sums.after / self._params.runs).tolist(), start=1):
            self._ctx.metric("stock_after_harvest", month, left)

    def _save(self) -> None:
        self._ctx.checkpoint({"done": self.tally.runs}, {"tally": self.tally.to_bytes()})
        self._saved_at = time.monotonic()

    def _resume(self) -> None:
        restored = self._ctx.restored()
        if restored is not None:
            self.tally = Tally.from_bytes(restored.blobs["tally"].read_bytes(), self._conditions)


def made_runs(journal: Path) -> Iterator[ImportedRun]:
    """The runs a simulation has written, read back."""
    defaults = Defaults("runs.jsonl", None, months=1, growth=1, collapse_below=1)  # each line states its own
    return (run for run in read_runs(journal, defaults) if isinstance(run, ImportedRun))
