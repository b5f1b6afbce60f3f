"""What becomes of a translated document: accepted or rejected, its provenance, what was dropped, and counts.

One `Record` per document, a JSON line of its shard.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.jobs.catalog.docre.transfer import TransferParams
from shared.relations.documents import Document, Label, Mention
from workers.docre.quality import FAILED_FLAGS, new_overlaps
from workers.docre.runs import SentenceMentions
from workers.docre.translators import WordCount

Record = dict[str, Any]
Where = tuple[int, int, int]  # sentence, first token, token after the last
LONG = 3
POSITIONAL = frozenset({"global_pos", "index"})
"""Re-DocRED's extra keys of a mention that count in the source text: elsewhere they would be untrue."""


@dataclass
class Target:
    """One document on its way: what is known of each mention, by entity and number."""

    source: Document
    sentences: list[tuple[str, ...]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    flags: list[list[str]] = field(default_factory=list)
    ratios: list[float | None] = field(default_factory=list)
    raws: list[str] = field(default_factory=list)
    words: list[WordCount | None] = field(default_factory=list)
    markup: list[float] = field(default_factory=list)
    """chrF of each sentence against its translation without marks, where that was asked for."""
    spans: dict[tuple[int, int], Where] = field(default_factory=dict)
    names: dict[tuple[int, int], str] = field(default_factory=dict)
    statuses: dict[tuple[int, int], str] = field(default_factory=dict)
    only_function_words: set[tuple[int, int]] = field(default_factory=set)


def record_of(target: Target, sentences: Sequence[SentenceMentions], params: TransferParams, strategy: str) -> Record:
    _drop_empty_names(target)
    provenance = _provenance(target, strategy)
    document, dropped = _assemble(target)
    counts = _counts(target, document, sentences)
    reasons = _rejection(target, params)
    return {
        "title": target.source.title,
        "document": None if reasons else document.as_json(),
        "failure": _failure(target, reasons) if reasons else None,
        "provenance": provenance,
        "dropped": dropped,
        "counts": counts,
    }


def _drop_empty_names(target: Target) -> None:
    """A mention that is only an article or a particle names nothing: it is lost, unless the source's was as short."""
    for key in target.only_function_words:
        del target.spans[key], target.names[key]
        target.statuses[key] = "lost"


def _provenance(target: Target, strategy: str) -> list[dict[str, Any]]:
    """A row per mention, in the source's order."""
    overlapping = new_overlaps(
        target.source,
        [[target.spans.get((e, n)) for n in range(len(entity))] for e, entity in enumerate(target.source.entities)],
    )
    rows = []
    for e, entity in enumerate(target.source.entities):
        for n, mention in enumerate(entity):
            where, name = target.spans.get((e, n)), target.names.get((e, n))
            flags = _mention_flags(mention, where, name)
            flags += ["only_function_words"] if (e, n) in target.only_function_words else []
            flags += ["new_overlap"] if (e, n) in overlapping else []
            rows.append({
                "title": target.source.title, "entity": e, "mention": n, "type": mention.type,
                "sent_id": mention.sent_id, "source_pos": [mention.start, mention.end], "source_name": mention.name,
                "target_pos": list(where[1:]) if where else None, "target_name": name,
                "status": target.statuses[e, n], "strategy": strategy, "flags": flags,
            })  # fmt: skip
    return rows


def _mention_flags(mention: Mention, where: Where | None, name: str | None) -> list[str]:
    if where is None:
        return []
    flags = ["name_unchanged"] if name == mention.name else []
    return flags + (["long_span"] if where[2] - where[1] > LONG * (mention.end - mention.start) else [])


def _assemble(target: Target) -> tuple[Document, dict[str, Any]]:
    """The target document without what is lost, indices remapped; and what was dropped."""
    source = target.source
    entities: list[tuple[Mention, ...]] = []
    renumbered: dict[int, int] = {}
    for e, entity in enumerate(source.entities):
        kept = tuple(
            Mention(target.names[e, n], *target.spans[e, n], mention.type, _lasting(mention))
            for n, mention in enumerate(entity)
            if (e, n) in target.spans
        )
        if kept:
            renumbered[e] = len(entities)
            entities.append(kept)
    labels = None
    if source.labels is not None:
        labels = tuple(
            Label(renumbered[label.head], renumbered[label.tail], label.relation, label.evidence, label.extra)
            for label in source.labels
            if label.head in renumbered and label.tail in renumbered
        )
    gone = [label for label in source.labels or () if not {label.head, label.tail} <= renumbered.keys()]
    dropped = {
        "entities": [e for e in range(len(source.entities)) if e not in renumbered],
        "labels": [[*label.triple] for label in gone],
    }
    return Document(source.title, tuple(target.sentences), tuple(entities), labels, source.extra), dropped


def _lasting(mention: Mention) -> dict[str, Any]:
    """A mention's unknown keys, but for those that count in the source."""
    return {key: value for key, value in mention.extra.items() if key not in POSITIONAL}


def _rejection(target: Target, params: TransferParams) -> list[str]:
    mentions = len(target.statuses)
    lost = sum(status == "lost" for status in target.statuses.values())
    failed = sum(bool(FAILED_FLAGS.intersection(flags)) for flags in target.flags)
    reasons = []
    if failed > params.max_failed_sentences:
        reasons.append(f"{failed} sentences failed; max_failed_sentences is {params.max_failed_sentences}")
    if mentions and lost / mentions > params.max_lost_mentions:
        reasons.append(f"{lost} of {mentions} mentions were lost; max_lost_mentions is {params.max_lost_mentions:g}")
    return reasons


def _failure(target: Target, reasons: Sequence[str]) -> dict[str, Any]:
    """All that is needed to repair the document and feed it in again."""
    return {
        "title": target.source.title,
        "reasons": list(reasons),
        "sentences": [
            {"sent_id": n, "flags": flags, "raw": raw}
            for n, (flags, raw) in enumerate(zip(target.flags, target.raws, strict=True))
            if flags
        ],
        "raw": target.raws,
        "source": target.source.as_json(),
    }


def _counts(target: Target, document: Document, sentences: Sequence[SentenceMentions]) -> dict[str, Any]:
    source = target.source
    by_type: dict[str, Counter[str]] = {}
    for (e, n), status in target.statuses.items():
        by_type.setdefault(source.entities[e][n].type, Counter())[status] += 1
    kept = Counter(label.relation for label in document.labels or ())
    all_labels = Counter(label.relation for label in source.labels or ())
    lengths = [len(each.sentence.detokenised.spans) for each in sentences]
    recovered = [sum(target.statuses[key] != "lost" for key in each.keys) for each in sentences]
    words = [count for count in target.words if count is not None]
    return {
        "sentences": len(sentences),
        "characters": sum(len(each.sentence.text) for each in sentences),
        "status_by_type": {name: dict(sorted(found.items())) for name, found in sorted(by_type.items())},
        "flags": dict(Counter(flag for flags in target.flags for flag in flags)),
        "entities": [len(document.entities), len(source.entities)],
        "labels": [sum(kept.values()), sum(all_labels.values())],
        "lost_labels": dict(sorted((all_labels - kept).items())),
        "by_length": [
            [length, got, len(each.keys)] for length, got, each in zip(lengths, recovered, sentences, strict=True)
        ],
        "words": [sum(count.words for count in words), sum(count.unknown for count in words)],
        "markup": target.markup,
        "ratios": [None if ratio is None else round(ratio, 3) for ratio in target.ratios],
    }
