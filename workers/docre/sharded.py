"""A transfer as a job: shards side by side in processes of their own, each checkpointed when it is done.

The job's state is `shards.json`: key, digest and counts per finished shard, their lines in the journal `shards.jsonl`,
in input order. A resumed job goes on behind them; a shard is the most that a kill repeats.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.jobs import errors
from shared.jobs.catalog.docre.transfer import TransferParams
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput, Permanent, Retryable
from shared.relations.documents import (
    Document,
    decoded,
    json_lines,
    parse_documents,
    read_documents,
    repaired,
)
from shared.relations.formats import parse_doccano
from shared.settings import Settings
from workers.docre.engines import engine_source, open_http
from workers.docre.shards import Shard, cut, of_part, transfer_shard, write_task
from workers.docre.translators import Translator

SHARDS = "shards.jsonl"
POLL_S = 0.05
SOURCE = Path(__file__).resolve().parents[2]


class ShardedTransfer:
    """One `docre.transfer` job."""

    def __init__(self, params: TransferParams, ctx: JobContext) -> None:
        self._params, self._ctx = params, ctx
        self.documents = read_source(params, ctx)
        self._http: Translator | None = None
        if params.backend == "http":
            self._http = open_http(params, ctx, Settings())
            self.info = self._http.info
        else:
            self._source = engine_source(params, ctx)
            self.info = self._source.open().info  # whatever is wrong with it is wrong before work starts
        self.all_shards = cut(len(self.documents), params, ctx.input_digest(params.documents), self.info)
        self.shards = of_part(self.all_shards, params)

    @property
    def parallel(self) -> int:
        return self._params.parallel or max(1, (os.cpu_count() or 1) // 2)

    def run(self) -> list[dict[str, Any]]:
        """The record of every document of this job's shards, in input order."""
        journal = self._ctx.journal(SHARDS)
        restored = self._ctx.restored()
        done: list[dict[str, Any]] = restored.state["shards"] if restored else []
        todo = self.shards[len(done) :]
        if [shard.key for shard in self.shards[: len(done)]] != [entry["key"] for entry in done]:
            raise Permanent("the engine on this worker is of another version than the one that began; submit again")
        total = sum(shard.end - shard.start for shard in self.shards)
        ready = sum(entry["documents"] for entry in done)
        self._ctx.progress(ready, total, "documents")
        for shard, data, cpu_s in self._transferred(todo):
            journal.append(data)
            self._ctx.timing("shard_cpu", cpu_s)
            digest = hashlib.sha256(data).hexdigest()
            done.append(
                {"index": shard.index, "key": shard.key, "sha256": digest, "documents": shard.end - shard.start}
            )
            self._ctx.checkpoint({"shards": done})
            ready += shard.end - shard.start
            self._ctx.progress(ready, total, "documents")
        journal.handle.flush()
        self.manifest = self._manifest(done)
        self._ctx.write_json("shards.json", self.manifest)
        return [json.loads(line) for line in journal.path.read_bytes().splitlines()]

    def _manifest(self, done: Sequence[dict[str, Any]]) -> dict[str, Any]:
        part = self._params.part.model_dump() if self._params.part else {"index": 0, "count": 1}
        return {
            "dataset": self._ctx.input_digest(self._params.documents), "shards_total": len(self.all_shards),
            "engine": {"name": self.info.name, "versions": dict(self.info.versions)},
            "part": part, "strategy": self._params.strategy, "shards": list(done),
        }  # fmt: skip

    def _transferred(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, bytes, float]]:
        """Every shard with its bytes and CPU-seconds, in order; up to `parallel` are under way at once."""
        transfer = self._through_http if self._http is not None else self._in_processes
        yield from transfer(shards)

    def _through_http(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, bytes, float]]:
        """Waiting for a server is no work: threads, which share its pace and what is kept."""
        engine = self._http
        assert engine is not None
        with ThreadPoolExecutor(self.parallel) as threads:
            under_way: list[tuple[Shard, Future[bytes]]] = []
            left = list(shards)
            try:
                while left or under_way:
                    while left and len(under_way) < self.parallel:
                        shard = left.pop(0)
                        under_way.append((shard, threads.submit(transfer_shard, self._of(shard), engine, self._params)))
                    shard, future = under_way.pop(0)
                    while not future.done():
                        self._ctx.check()
                        time.sleep(POLL_S)
                    yield shard, future.result(), 0.0
            finally:
                for _, future in under_way:
                    future.cancel()

    def _in_processes(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, bytes, float]]:
        left = list(shards)
        under_way: list[ShardProcess] = []
        try:
            while left or under_way:
                while left and len(under_way) < self.parallel:
                    under_way.append(self._start(left.pop(0)))
                first = under_way[0]
                while not first.is_done():
                    self._ctx.check()
                    time.sleep(POLL_S)
                yield first.shard, first.bytes(), first.cpu_s()
                under_way.pop(0)
        finally:
            for process in under_way:
                process.kill()

    def _start(self, shard: Shard) -> "ShardProcess":
        out = self._ctx.work_dir / shard.name
        task = out.with_suffix(".task.json")
        write_task(task, self._of(shard), self._source, self._params, out)
        return ShardProcess(shard, task, out)

    def _of(self, shard: Shard) -> list[Document]:
        return self.documents[shard.start : shard.end]


class ShardProcess:
    """A shard under way. It belongs to the job's process group: who ends the job ends it too."""

    def __init__(self, shard: Shard, task: Path, out: Path) -> None:
        self.shard, self._out = shard, out
        path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "workers.docre.shards", str(task)]
        self._errors = out.with_suffix(".stderr").open("w+b")
        self._process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=self._errors
        )

    def is_done(self) -> bool:
        return self._process.poll() is not None

    def bytes(self) -> bytes:
        """The shard. Raises what its process raised."""
        if self._process.returncode == 0:
            self._errors.close()
            return self._out.read_bytes()
        self._raise()
        raise AssertionError("unreachable")

    def cpu_s(self) -> float:
        return float(self._out.with_suffix(".cpu").read_text())

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._errors.close()

    def _raise(self) -> None:
        self._errors.seek(0)
        last = self._errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        self._errors.close()
        told = self._out.with_suffix(".error")
        if told.exists():
            said = json.loads(told.read_text())
            raise getattr(errors, said["type"])(said["message"])
        if self._process.returncode < 0:
            raise Retryable(f"the process of shard {self.shard.index} was killed by signal {-self._process.returncode}")
        raise Permanent(f"shard {self.shard.index} failed: {last[0] if last else self._process.returncode}")


def read_source(params: TransferParams, ctx: JobContext) -> list[Document]:
    """The documents of a transfer. Raises InvalidInput naming document and field."""
    path = ctx.input(params.documents)
    name = f"documents ({params.documents})"
    if params.format == "doccano":
        return parse_doccano(path.read_bytes(), name)
    if params.format == "failures":
        return read_failures(path, name)
    return read_documents(path, name)


def read_failures(path: Path, name: str) -> list[Document]:
    """The sources of rejected documents: `failures.jsonl` of an earlier transfer, repaired or not."""
    lines = json_lines(decoded(path.read_bytes(), name), name)
    for number, value in lines:
        if not isinstance(value, dict) or "source" not in value:
            raise InvalidInput(f"{name}: line {number}: source is missing; format failures reads failures.jsonl")
    sources = json.dumps([value["source"] for _, value in lines], ensure_ascii=False)
    return [
        repaired(document, f"{name}: document {n}") for n, document in enumerate(parse_documents(sources.encode(), name))
    ]
