"""A transfer as a job: shards side by side in processes of their own, each checkpointed when it is done.

The job's state is `shards.json`: key, digest and counts per finished shard, their lines in the journal `shards.jsonl`,
in input order. A resumed job goes on behind them; a shard is the most that a kill repeats.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from shared.jobs.catalog.docre.transfer import TransferParams
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput, Permanent
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
from workers.docre.figures import shard_timeline
from workers.docre.shard_process import Finished, ShardProcess
from workers.docre.shards import Shard, cut, of_part, transfer_shard, write_task
from workers.docre.translators.http import HttpTranslator

SHARDS = "shards.jsonl"
POLL_S = 0.05
TIMELINE = "shard_timeline.plotly.json"  # a measurement


class ShardedTransfer:
    """One `docre.transfer` job."""

    def __init__(self, params: TransferParams, ctx: JobContext) -> None:
        self._params, self._ctx = params, ctx
        self.documents = read_source(params, ctx)
        self._http: HttpTranslator | None = None
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
        spans: list[list[Any]] = restored.state["spans"] if restored else []
        for finished in self._transferred(todo):
            shard = finished.shard
            journal.append(finished.data)
            spans.append([shard.index, finished.begun, finished.ended])
            self._ctx.timing("shard_cpu", finished.cpu_s, key=shard.name)
            digest = hashlib.sha256(finished.data).hexdigest()
            done.append(
                {"index": shard.index, "key": shard.key, "sha256": digest, "documents": shard.end - shard.start}
            )
            self._ctx.checkpoint({"shards": done, "spans": spans})
            ready += shard.end - shard.start
            self._ctx.progress(ready, total, "documents")
        self._ctx.write_json(TIMELINE, shard_timeline(spans))
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

    def _transferred(self, shards: Sequence[Shard]) -> Iterator[Finished]:
        """Every shard, in order; up to `parallel` are under way at once."""
        if self._http is None:
            yield from self._in_processes(shards)
            return
        try:
            yield from self._through_http(self._http, shards)
        finally:
            self._ctx.log(f"{self._http.characters} characters were sent to {self._params.translator} in this attempt")
            self._http.close()

    def _through_http(self, engine: HttpTranslator, shards: Sequence[Shard]) -> Iterator[Finished]:
        """Waiting for a server is no work: threads, which share its pace and what is kept."""

        def transfer(shard: Shard) -> Finished:
            begun = time.time()
            return Finished(shard, transfer_shard(self._of(shard), engine, self._params), 0.0, begun, time.time())

        with ThreadPoolExecutor(self.parallel) as threads:
            under_way: list[Future[Finished]] = []
            left = list(shards)
            try:
                while left or under_way:
                    while left and len(under_way) < self.parallel:
                        under_way.append(threads.submit(transfer, left.pop(0)))
                    while not under_way[0].done():
                        self._ctx.check()
                        time.sleep(POLL_S)
                    yield under_way.pop(0).result()
            finally:
                for future in under_way:
                    future.cancel()

    def _in_processes(self, shards: Sequence[Shard]) -> Iterator[Finished]:
        left = list(shards)
        under_way: list[ShardProcess] = []
        try:
            while left or under_way:
                while left and len(under_way) < self.parallel:
                    under_way.append(self._start(left.pop(0)))
                while not under_way[0].is_done():
                    self._ctx.check()
                    time.sleep(POLL_S)
                yield under_way[0].finished()
                under_way.pop(0)
        finally:
            for process in under_way:
                process.kill()

    def _start(self, shard: Shard) -> ShardProcess:
        out = self._ctx.work_dir / shard.name
        task = out.with_suffix(".task.json")
        write_task(task, self._of(shard), self._source, self._params, out)
        return ShardProcess(shard, task, out)

    def _of(self, shard: Shard) -> list[Document]:
        return self.documents[shard.start : shard.end]


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
        repaired(document, f"{name}: document {n}")
        for n, document in enumerate(parse_documents(sources.encode(), name))
    ]
