"""All runs of a condition with language models, wave by wave: written down and checkpointed after every phase.

The checkpoint is small: what was said and remembered stands in journals (`transcript.jsonl`, `memory.jsonl`,
`conversations.jsonl`) that only grow, and a resumed job reads its agents' memories back from them. Within a phase every
reply is kept as it arrives, so a kill repeats at most the calls in flight. `TalkingSimulation.run` is the entry point.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from shared.jobs.catalog.govsim import SimulateParams
from shared.jobs.context import JobContext
from workers.govsim.asking import Counts
from workers.govsim.memory import Memory, Node
from workers.govsim.records import describe, lines
from workers.govsim.simulation import RUNS
from workers.govsim.society import conditions_of
from workers.govsim.talking import TalkingSociety, Wave, Written
from workers.govsim.tally import Tally
from workers.govsim.trajectories import Trajectories, measure

TRANSCRIPT, MEMORY, CONVERSATIONS = "transcript.jsonl", "memory.jsonl", "conversations.jsonl"
WAVE_RUNS = 100  # simulated together; more would only wait for the endpoint


class TalkingSimulation:
    """The state of one `govsim.simulate` job whose agents have models."""

    def __init__(self, params: SimulateParams, ctx: JobContext, society: TalkingSociety) -> None:
        self._params, self._ctx, self._society = params, ctx, society
        self._conditions = conditions_of(params)
        self._said = describe(params)
        self.tally = Tally(self._conditions)
        self.counts = Counts()
        self.invalid_runs = 0
        for name in (RUNS, TRANSCRIPT, MEMORY, CONVERSATIONS):
            ctx.journal(name)
        self._wave: Wave | None = None
        self._done = 0
        self._resume()

    async def run(self) -> None:
        """Simulate what is left, then report the mean stock as a curve."""
        while self._done < self._params.runs:
            wave = self._wave or self._society.begin(self._done, min(WAVE_RUNS, self._params.runs - self._done))
            self._wave = wave
            self._report_progress(wave)
            while not wave.is_over:
                self._write(await self._society.play_phase(wave))
                self._report_progress(wave)
                self._save()
            self._conclude(wave)
            self._wave = None
            self._done += len(wave.runs)
            self._save()
        self._report_curves()

    def _write(self, written: Written) -> None:
        for name, records in (
            (TRANSCRIPT, written.transcript),
            (MEMORY, written.memory),
            (CONVERSATIONS, written.conversations),
        ):
            for record in records:
                self._ctx.journal(name).append_json(record)

    def _report_progress(self, wave: Wave) -> None:
        months = self._params.months
        ended = len(wave.runs) - len(wave.alive)
        done = self._done * months + ended * months + len(wave.alive) * wave.month
        self._ctx.progress(done, self._params.runs * months, "months")

    def _conclude(self, wave: Wave) -> None:
        """Measure the wave's runs and write their lines; only valid ones enter the tally."""
        rate = self._params.max_parse_failure_rate
        invalid = [run.counts.is_invalid(rate) for run in wave.runs]
        heads = [
            {
                "run": run.run,
                "invalid": is_invalid,
                "fallback_rate": run.counts.fallback_rate,
                "model_calls": run.counts.model_calls,
                "tokens_in": run.counts.tokens_in,
                "tokens_out": run.counts.tokens_out,
            }
            for run, is_invalid in zip(wave.runs, invalid, strict=True)
        ]
        measured = measure(wave.batch, self._conditions)
        for line in lines(wave.batch, measured, self._conditions, heads, [self._said] * len(heads)):
            self._ctx.journal(RUNS).append(line)
        valid = np.flatnonzero(~np.array(invalid))
        if len(valid):
            self.tally.add(wave.batch.of(valid))
        self.invalid_runs += sum(invalid)
        for run in wave.runs:
            self.counts.add(run.counts)

    def _report_curves(self) -> None:
        runs = self.tally.runs
        for month, total in enumerate(self.tally.sums.after.tolist(), start=1):
            self._ctx.metric("stock_after_harvest", month, total / runs if runs else None)
        for name in (RUNS, TRANSCRIPT, MEMORY, CONVERSATIONS):
            self._ctx.journal(name).handle.flush()

    # Checkpoints ----------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        state = {"done": self._done, "counts": asdict(self.counts), "invalid_runs": self.invalid_runs, "wave": None}
        blobs = {"tally": self.tally.to_bytes()}
        if self._wave is not None:
            state["wave"] = _wave_state(self._wave)
            blobs["wave"] = _arrays(self._wave.batch)
        self._ctx.pack_replies()
        self._ctx.checkpoint(state, blobs)

    def _resume(self) -> None:
        restored = self._ctx.restored()
        if restored is None:
            return
        state = restored.state
        self._done, self.invalid_runs, self.counts = state["done"], state["invalid_runs"], Counts(**state["counts"])
        self.tally = Tally.from_bytes(restored.blobs["tally"].read_bytes(), self._conditions)
        if state["wave"] is not None:
            self._wave = self._restored_wave(state["wave"], restored.blobs["wave"])

    def _restored_wave(self, state: dict[str, Any], arrays: Path) -> Wave:
        with np.load(arrays, allow_pickle=False) as saved:
            batch = Trajectories(*(saved[part.name] for part in fields(Trajectories)))
        wave = self._society.begin(self._done, len(batch.runs))
        wave.batch, wave.stock = batch, np.array(state["stock"], dtype=np.int64)
        wave.alive, wave.month, wave.phase = state["alive"], state["month"], state["phase"]
        for run, counts in zip(wave.runs, state["counts"], strict=True):
            run.counts = Counts(**counts)
        self._society.resume(wave, memories_of(Path(self._ctx.journal(MEMORY).path), self._done))
        return wave


def memories_of(journal: Path, first_run: int) -> dict[tuple[int, int], Memory]:
    """(run, agent) → memory, of the runs from a number on, read back from `memory.jsonl`."""
    memories: dict[tuple[int, int], Memory] = {}
    for line in json_lines(journal):
        if line["run"] >= first_run:
            memories.setdefault((line["run"], line["agent"]), Memory()).nodes.append(Node.from_line(line))
    return memories


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSONL file."""
    with path.open("rb") as handle:
        yield from map(json.loads, handle)


def _wave_state(wave: Wave) -> dict[str, Any]:
    return {
        "month": wave.month,
        "phase": wave.phase,
        "alive": wave.alive,
        "stock": wave.stock.tolist(),
        "counts": [asdict(run.counts) for run in wave.runs],
    }


def _arrays(batch: Trajectories) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{part.name: getattr(batch, part.name) for part in fields(Trajectories)})
    return buffer.getvalue()
