"""Transfer of a shard: documents in, translated documents with their annotations out.

Each document becomes one `Record`: the target document or why it was rejected, a provenance row per mention, and
counts. Records are JSON lines; a shard's bytes depend on its documents, engine and parameters alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.jobs.catalog.docre.transfer import TransferParams
from shared.relations.documents import Document, Label, Mention
from shared.relations.text import Span
from workers.docre.placing import Rules, TargetSentence, chosen, place
from workers.docre.projection import Placed, snap, trimmed
from workers.docre.quality import FAILED_FLAGS, length_ratio, new_overlaps, sentence_flags
from workers.docre.runs import SentenceMentions, sentences_of
from workers.docre.tokenising import (
    JAPANESE,
    Morpheme,
    Tokeniser,
    is_only_function_words,
    tokeniser_of,
    without_particles,
)
from workers.docre.translators import Translator

Record = dict[str, Any]
Where = tuple[int, int, int]  # sentence, first token, token after the last
LONG = 3


@dataclass
class Target:
    """One document on its way: what is known of each mention, by entity and number."""

    source: Document
    sentences: list[tuple[str, ...]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    flags: list[list[str]] = field(default_factory=list)
    ratios: list[float | None] = field(default_factory=list)
    raws: list[str] = field(default_factory=list)
    spans: dict[tuple[int, int], Where] = field(default_factory=dict)
    names: dict[tuple[int, int], str] = field(default_factory=dict)
    statuses: dict[tuple[int, int], str] = field(default_factory=dict)
    only_function_words: set[tuple[int, int]] = field(default_factory=set)


def transfer_documents(documents: Sequence[Document], engine: Translator, params: TransferParams) -> list[Record]:
    """One record per document, in order."""
    sources = [sentences_of(document) for document in documents]
    flat = [each.sentence for sentences in sources for each in sentences]
    rules = Rules(params.max_gap_words, params.fuzzy_min_ratio)
    with_text = [n for n, sentence in enumerate(flat) if sentence.text]
    answers = dict(zip(with_text, place(params.strategy, [flat[n] for n in with_text], engine, rules), strict=True))
    unknown = engine.unknown_words([sentence.text for sentence in flat if sentence.text])
    tokenise = tokeniser_of(params.target_lang, params.analyser)
    records, at = [], 0
    for document, sentences in zip(documents, sources, strict=True):
        target = Target(document)
        for source in sentences:
            _add_sentence(target, source, answers.get(at, TargetSentence("", ())), tokenise, params)
            at += 1
        records.append(_record(target, sentences, params, chosen(params.strategy, engine)))
    if records and unknown is not None:  # of the whole shard: the engine was asked once
        records[0]["counts"] |= {"unknown_words": unknown[0], "analysed_words": unknown[1]}
    return records


def _add_sentence(
    target: Target, source: SentenceMentions, answer: TargetSentence, tokenise: Tokeniser, params: TransferParams
) -> None:
    """Tokens and spans of one translated sentence; a failed one keeps its source text and loses its mentions."""
    number = len(target.sentences)
    text = source.sentence.text
    flags = sentence_flags(text, answer.text, answer.error, params.target_lang in JAPANESE)
    failed = bool(FAILED_FLAGS.intersection(flags))
    target.flags.append(flags)
    target.ratios.append(None if failed else length_ratio(text, answer.text, params.target_lang in JAPANESE))
    target.raws.append(answer.raw)
    target.texts.append(text if failed else answer.text)
    if failed:
        target.sentences.append(target.source.sentences[number])
        target.statuses.update(dict.fromkeys(source.keys, "lost"))
        return
    morphemes = tokenise(answer.text)
    target.sentences.append(tuple(answer.text[start:end] for (start, end), _ in morphemes))
    for key, placed in zip(source.keys, answer.placed, strict=True):
        _add_mention(target, key, placed, morphemes, params)


def _add_mention(
    target: Target, key: tuple[int, int], placed: Placed, morphemes: Sequence[Morpheme], params: TransferParams
) -> None:
    text, number = target.texts[-1], len(target.sentences) - 1
    where = None
    if placed.span is not None:
        span = trimmed(text, placed.span)
        if params.trims_particles:
            span = without_particles(morphemes, _outward(morphemes, span))
        where = snap([morpheme.span for morpheme in morphemes], span)
    if where is None:
        target.statuses[key] = "lost"
        return
    start, end = where
    target.statuses[key] = placed.status
    target.spans[key] = (number, start, end)
    target.names[key] = text[morphemes[start].span.start : morphemes[end - 1].span.end]
    if is_only_function_words(target.names[key], params.target_lang, [m.is_particle for m in morphemes[start:end]]):
        target.only_function_words.add(key)


def _outward(morphemes: Sequence[Morpheme], span: Span) -> Span:
    """The whole morphemes that a span touches."""
    touched = snap([morpheme.span for morpheme in morphemes], span)
    return span if touched is None else Span(morphemes[touched[0]].span.start, morphemes[touched[1] - 1].span.end)


# What becomes of the document -----------------------------------------------------------------------------------------


def _record(target: Target, sentences: Sequence[SentenceMentions], params: TransferParams, strategy: str) -> Record:
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
            Mention(target.names[e, n], target.spans[e, n][0], *target.spans[e, n][1:], mention.type)
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
        "ratios": [None if ratio is None else round(ratio, 3) for ratio in target.ratios],
    }
