"""Joining the parts of one dataset: every shard once, in order, of one engine, or no file at all."""

import hashlib
import json
from typing import Any

from shared.jobs.catalog.docre.transfer import MergeParams, TransferResult
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from workers.docre.reporting import write_outcome
from workers.docre.sharded import SHARDS

MANIFEST = "shards.json"


def merge_parts(params: MergeParams, ctx: JobContext) -> TransferResult:
    """Check and join. Raises InvalidInput where parts don't fit together."""
    manifests = {part: _manifest(part, ctx) for part in params.parts}
    first = params.parts[0]
    for part, manifest in manifests.items():
        for field in ("dataset", "engine", "strategy", "shards_total"):
            if manifest[field] != manifests[first][field]:
                raise InvalidInput(f"parts: {part} and {first} differ in their {field}; they are not of one dataset")
    lines: dict[int, list[str]] = {}
    entries: dict[int, dict[str, Any]] = {}
    for part, manifest in manifests.items():
        for entry, own in _shards(part, manifest, ctx):
            if entry["index"] in entries:
                raise InvalidInput(f"parts: shard {entry['index']} comes twice, the second time from {part}")
            entries[entry["index"]], lines[entry["index"]] = entry, own
        ctx.progress(len(entries), manifests[first]["shards_total"], "shards")
    missing = sorted(set(range(manifests[first]["shards_total"])) - entries.keys())
    if missing:
        raise InvalidInput(
            f"parts: shards {missing[:10]} of {manifests[first]['shards_total']} are in none of the parts"
        )
    whole = {**manifests[first], "part": {"index": 0, "count": 1}, "shards": [entries[n] for n in sorted(entries)]}
    records = [json.loads(line) for n in sorted(lines) for line in lines[n]]
    ctx.write_json(MANIFEST, whole)
    with ctx.artifact(SHARDS) as out:
        out.writelines((line + "\n").encode() for n in sorted(lines) for line in lines[n])
    return write_outcome(ctx, records, whole)


def _manifest(part: Ref, ctx: JobContext) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ctx.input(_artifact(part, MANIFEST)).read_text())
    return found


def _shards(part: Ref, manifest: dict[str, Any], ctx: JobContext) -> list[tuple[dict[str, Any], list[str]]]:
    """Each shard's entry and lines, checked against its digest."""
    lines = ctx.input(_artifact(part, SHARDS)).read_text("utf-8").split("\n")[:-1]
    found, at = [], 0
    for entry in manifest["shards"]:
        own = lines[at : at + entry["documents"]]
        at += len(own)
        if hashlib.sha256("".join(line + "\n" for line in own).encode()).hexdigest() != entry["sha256"]:
            raise InvalidInput(
                f"parts: shard {entry['index']} of {part} is not the one that was recorded; run the part again"
            )
        found.append((entry, own))
    if at != len(lines):
        raise InvalidInput(f"parts: {part} holds {len(lines)} documents, its record says {at}")
    return found


def _artifact(part: Ref, name: str) -> Ref:
    """A part is a whole job; a file named in it is taken as pointing to its job."""
    return Ref(f"job:{part.job_id}/{name}")
