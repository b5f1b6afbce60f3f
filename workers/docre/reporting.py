"""What a transfer reports: counts over records, the figures, and the final files."""

import json
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from shared.jobs.catalog.docre.transfer import MAX_LISTED, Engine, MentionStatus, TransferResult
from shared.jobs.context import JobContext
from workers.docre.figures import transfer_figures
from workers.docre.projection import count_statuses
from workers.docre.quality import MENTION_FLAGS, SENTENCE_FLAGS

Record = dict[str, Any]


def write_outcome(ctx: JobContext, records: Sequence[Record], manifest: dict[str, Any]) -> TransferResult:
    """The final files of a transfer or a merge, equal for equal records, and the result."""
    with ctx.artifact("transferred.json") as out:
        accepted = [_line(record["document"]) for record in records if record["document"] is not None]
        out.write(("[" + ",\n".join(accepted) + "]\n").encode())
    with ctx.artifact("provenance.jsonl") as out:
        out.writelines((_line(row) + "\n").encode() for record in records for row in record["provenance"])
    with ctx.artifact("failures.jsonl") as out:
        out.writelines((_line(r["failure"]) + "\n").encode() for r in records if r["failure"] is not None)
    result = result_of(records, manifest)
    ctx.write_json("report.json", {**result.model_dump(mode="json"), "documents": [_summary(r) for r in records]})
    for name, figure in transfer_figures(records).items():
        ctx.write_json(name, figure)
    return result


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _summary(record: Record) -> dict[str, Any]:
    """One document in the report: what was dropped, and why."""
    lost = [[row["entity"], row["mention"]] for row in record["provenance"] if row["status"] == "lost"]
    return {
        "title": record["title"],
        "accepted": record["document"] is not None,
        "reasons": record["failure"]["reasons"] if record["failure"] else [],
        "flags": record["counts"]["flags"],
        "lost_mentions": lost,
        "dropped": record["dropped"],
    }


def result_of(records: Sequence[Record], manifest: dict[str, Any]) -> TransferResult:
    rows = [row for record in records for row in record["provenance"]]
    counts = [record["counts"] for record in records]
    rejected = [record["title"] for record in records if record["failure"] is not None]
    status = count_statuses(row["status"] for row in rows)
    flags = Counter(flag for row in rows for flag in row["flags"])
    sentence_flags: Counter[str] = Counter()
    for count in counts:
        sentence_flags.update(count["flags"])
    entities, labels = (
        [sum(each) for each in zip(*(c[name] for c in counts), strict=True)] for name in ("entities", "labels")
    )
    words, unknown = (sum(each) for each in zip(*(count["words"] for count in counts), strict=True))
    markup = [value for count in counts for value in count["markup"]]
    return TransferResult(
        documents_in=len(records), documents_out=len(records) - len(rejected), documents_rejected=len(rejected),
        rejected=rejected[:MAX_LISTED], sentences=sum(count["sentences"] for count in counts), mentions=len(rows),
        status=MentionStatus(**status), mention_recovery=_share(len(rows) - status["lost"], len(rows)),
        entity_retention=_share(*entities), relation_retention=_share(*labels),
        documents_complete=_share(sum(c["entities"][0] == c["entities"][1] for c in counts), len(counts)),
        sentence_flags={name: sentence_flags[name] for name in SENTENCE_FLAGS},
        mention_flags={name: flags[name] for name in MENTION_FLAGS},
        unknown_word_share=_share(unknown, words),
        markup_chrf=round(fmean(markup), 6) if markup else None,
        sentences_unchanged=_share(sum(value == 1 for value in markup), len(markup)),
        characters=sum(count["characters"] for count in counts),
        strategy=rows[0]["strategy"] if rows else manifest["strategy"],
        shards_done=len(manifest["shards"]), shards_total=manifest["shards_total"],
        engine=Engine(**manifest["engine"]),
    )  # fmt: skip


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
