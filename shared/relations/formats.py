"""Documents in the forms that other programs read and write: doccano JSONL, the official prediction list, CSV."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from shared.jobs.errors import InvalidInput
from shared.relations.documents import Document, Label, Mention, Refusal, decoded, json_lines
from shared.relations.text import Span, detokenise, word_spans

CSV_COLUMNS = ("title", "head", "relation", "relation_name", "tail", "h", "t", "evidence")


def predictions_of(documents: Iterable[Document]) -> list[dict[str, Any]]:
    """The official list: `[{title, h_idx, t_idx, r, evidence}]`."""
    return [
        {"title": document.title, "h_idx": label.head, "t_idx": label.tail, "r": label.relation,
         "evidence": list(label.evidence or ())}
        for document in documents
        for label in document.labels or ()
    ]  # fmt: skip


def csv_of(documents: Iterable[Document], names: Mapping[str, str] | None = None) -> str:
    """One triple a row, entities by the name of their first mention."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for document in documents:
        for label in document.labels or ():
            head, tail = (document.entities[index][0].name for index in (label.head, label.tail))
            name = (names or {}).get(label.relation, "")
            evidence = " ".join(map(str, label.evidence or ()))
            row = (document.title, head, label.relation, name, tail, label.head, label.tail, evidence)
            writer.writerow([_inert(cell) for cell in row])
    return out.getvalue()


def _inert(cell: object) -> object:
    """A spreadsheet must not compute what a document's text begins with."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


# doccano --------------------------------------------------------------------------------------------------------------


def doccano_of(documents: Iterable[Document]) -> str:
    """doccano JSONL: a sentence a line of `text`, one span per mention, relations between first mentions.

    `cluster` (which entity a span belongs to) and `title` are ours: doccano keeps and ignores them.
    """
    return "".join(json.dumps(_to_doccano(document), ensure_ascii=False) + "\n" for document in documents)


def _to_doccano(document: Document) -> dict[str, Any]:
    texts, spans, offset = [], [], 0
    for sentence in document.sentences:
        text, tokens = detokenise(sentence)
        spans.append([Span(start + offset, end + offset) for start, end in tokens])
        texts.append(text)
        offset += len(text) + 1
    entities: list[dict[str, Any]] = []
    first: list[int] = []
    for cluster, mentions in enumerate(document.entities):
        first.append(len(entities))
        for mention in mentions:
            tokens_of = spans[mention.sent_id][mention.start : mention.end]
            entities.append({"id": len(entities), "label": mention.type, "start_offset": tokens_of[0].start,
                             "end_offset": tokens_of[-1].end, "cluster": cluster})  # fmt: skip
    relations = [
        {"id": n, "from_id": first[label.head], "to_id": first[label.tail], "type": label.relation}
        for n, label in enumerate(document.labels or ())
    ]
    return {"title": document.title, "text": "\n".join(texts), "entities": entities, "relations": relations}


def parse_doccano(data: bytes, name: str) -> list[Document]:
    """doccano JSONL as documents; spans snap outward to whole tokens. Raises InvalidInput naming line and field."""
    documents = []
    for number, value in json_lines(decoded(data, name), name):
        try:
            documents.append(_from_doccano(value, number))
        except Refusal as refusal:
            raise InvalidInput(f"{name}: line {number}: {refusal}") from None
        except (KeyError, TypeError) as error:
            raise InvalidInput(f"{name}: line {number}: {error} is missing or not of doccano's form") from None
    if not documents:
        raise InvalidInput(f"{name} holds no document")
    return documents


def _from_doccano(value: Mapping[str, Any], number: int) -> Document:
    starts: list[int] = []
    sentences: list[tuple[str, ...]] = []
    tokens: list[list[Span]] = []
    offset = 0
    for line in str(value["text"]).split("\n"):
        spans = word_spans(line)
        starts.append(offset)
        sentences.append(tuple(line[start:end] for start, end in spans))
        tokens.append([Span(start + offset, end + offset) for start, end in spans])
        offset += len(line) + 1
    clusters: dict[Any, int] = {}
    entities: list[list[Mention]] = []
    entity_of: dict[Any, int] = {}
    for n, entity in enumerate(value.get("entities") or []):
        mention = _doccano_mention(entity, str(value["text"]), tokens, f"entities[{n}]")
        index = clusters.setdefault(entity.get("cluster", ("alone", entity["id"])), len(entities))
        if index == len(entities):
            entities.append([])
        entities[index].append(mention)
        entity_of[entity["id"]] = index
    labels = []
    for n, relation in enumerate(value.get("relations") or []):
        ends = [relation["from_id"], relation["to_id"]]
        for key, end in zip(("from_id", "to_id"), ends, strict=True):
            if end not in entity_of:
                raise Refusal(f"relations[{n}].{key}", f"{end} is no entity of this line")
        head, tail = (entity_of[end] for end in ends)
        labels.append(Label(head, tail, str(relation["type"]), ()))
    title = str(value.get("title") or value.get("id") or f"line {number}")
    return Document(title, tuple(sentences), tuple(map(tuple, entities)), tuple(labels))


def _doccano_mention(entity: Mapping[str, Any], text: str, tokens: list[list[Span]], at: str) -> Mention:
    start, end = int(entity["start_offset"]), int(entity["end_offset"])
    if not 0 <= start < end <= len(text):
        raise Refusal(at, f"[{start}, {end}) is outside the text of {len(text)} characters")
    for sent_id, spans in enumerate(tokens):
        covered = [n for n, span in enumerate(spans) if span.start < end and start < span.end]
        if covered:
            return Mention(text[start:end], sent_id, covered[0], covered[-1] + 1, str(entity["label"]))
    raise Refusal(at, f"[{start}, {end}) covers no word")
