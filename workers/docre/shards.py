"""A dataset as shards: which documents each holds, what names it, and transferring one in a process of its own.

    python -m workers.docre.shards TASK.json      a shard's process

A shard's bytes depend on its documents, the engine with its versions, and the parameters: that is its key. The process
writes `shard-00007.jsonl.tmp`, syncs and renames it; nothing half-written is ever taken for a shard.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.jobs.catalog.docre.transfer import TransferParams
from shared.jobs.errors import TenfoldError
from shared.relations.documents import Document, document_of
from workers.docre.engines import EngineSource
from workers.docre.transferring import transfer_documents
from workers.docre.translators import EngineInfo, Translator

DECIDING = (
    "backend", "source_lang", "target_lang", "strategy", "shard_size", "max_gap_words", "fuzzy_min_ratio",
    "max_lost_mentions", "max_failed_sentences", "particle_trim", "analyser", "markup_damage",
)  # fmt: skip
"""The parameters that decide a shard's bytes; parallel and part don't."""


@dataclass(frozen=True)
class Shard:
    """Documents [start, end) of the dataset."""

    index: int
    start: int
    end: int
    key: str

    @property
    def name(self) -> str:
        return f"shard-{self.index:05d}.jsonl"


def cut(documents: int, params: TransferParams, dataset: str, engine: EngineInfo) -> list[Shard]:
    """All shards of the dataset, in input order."""
    size = params.shard_size
    deciding = params.model_dump(mode="json", include=set(DECIDING))
    shards = []
    for index, start in enumerate(range(0, documents, size)):
        about = [dataset, index, engine.name, dict(engine.versions), deciding]
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        shards.append(Shard(index, start, min(start + size, documents), key))
    return shards


def of_part(shards: Sequence[Shard], params: TransferParams) -> list[Shard]:
    """The shards that this job does: consecutive ones, as evenly as they can be shared."""
    if params.part is None:
        return list(shards)
    n, k = params.part.index, params.part.count
    return list(shards[n * len(shards) // k : (n + 1) * len(shards) // k])


def transfer_shard(documents: Sequence[Document], engine: Translator, params: TransferParams) -> bytes:
    """The shard as JSON lines, one record per document."""
    records = transfer_documents(documents, engine, params)
    return "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records).encode()


def write_task(
    path: Path, documents: Sequence[Document], source: EngineSource, params: TransferParams, out: Path
) -> None:
    """What a shard's process is told."""
    task = {
        "documents": [document.as_json() for document in documents],
        "engine": json.loads(source.as_json()),
        "params": params.model_dump(mode="json"),
        "out": str(out),
    }
    path.write_text(json.dumps(task, ensure_ascii=False))


def main(task: Path) -> int:
    """Transfer one shard. A failure that Tenfold can explain goes to `<out>.error`."""
    told: dict[str, Any] = json.loads(task.read_text())
    out = Path(told["out"])
    started = time.process_time()
    try:
        documents = [document_of(value) for value in told["documents"]]
        params = TransferParams.model_validate(told["params"])
        data = transfer_shard(documents, EngineSource(**told["engine"]).open(), params)
    except TenfoldError as error:
        out.with_suffix(".error").write_text(json.dumps({"type": type(error).__name__, "message": error.message}))
        return 3
    fresh = out.with_suffix(".jsonl.tmp")
    with fresh.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    used = os.times()
    out.with_suffix(".cpu").write_text(str(time.process_time() - started + used.children_user + used.children_system))
    os.replace(fresh, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
