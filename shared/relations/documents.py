"""A document for relation extraction: sentences of tokens, entities with their mentions, labels between entities.

The form of DocRED, Re-DocRED and JacRED. `parse_documents` reads a JSON array or JSONL and refuses what is broken,
naming document and field; `as_json` gives back what was read, unknown keys included.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from shared.jobs.errors import InvalidInput

MENTION_KEYS = frozenset({"name", "sent_id", "pos", "type"})
LABEL_KEYS = frozenset({"h", "t", "r", "evidence"})
DOCUMENT_KEYS = frozenset({"title", "sents", "vertexSet", "labels"})


@dataclass(frozen=True)
class Mention:
    """Where an entity is named: tokens [start, end) of one sentence."""

    name: str
    sent_id: int
    start: int
    end: int
    type: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        own = {"name": self.name, "sent_id": self.sent_id, "pos": [self.start, self.end], "type": self.type}
        return {**own, **self.extra}


class Triple(NamedTuple):
    """(h, t, r): a relation between two entities of one document."""

    head: int
    tail: int
    relation: str


@dataclass(frozen=True)
class Label:
    """A relation that holds, and the sentences that say so; `evidence` None: not annotated."""

    head: int
    tail: int
    relation: str
    evidence: tuple[int, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def triple(self) -> Triple:
        return Triple(self.head, self.tail, self.relation)

    def as_json(self) -> dict[str, Any]:
        own: dict[str, Any] = {"h": self.head, "t": self.tail, "r": self.relation}
        if self.evidence is not None:
            own["evidence"] = list(self.evidence)
        return {**own, **self.extra}


@dataclass(frozen=True)
class Document:
    """One document; `labels` None: a blind test."""

    title: str
    sentences: tuple[tuple[str, ...], ...]
    entities: tuple[tuple[Mention, ...], ...]
    labels: tuple[Label, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def triples(self) -> frozenset[Triple]:
        return frozenset(label.triple for label in self.labels or ())

    def entity_type(self, entity: int) -> str:
        """The type of its first mention: entities that mix types are rare."""
        return self.entities[entity][0].type

    def as_json(self) -> dict[str, Any]:
        own: dict[str, Any] = {
            "title": self.title,
            "sents": [list(sentence) for sentence in self.sentences],
            "vertexSet": [[mention.as_json() for mention in entity] for entity in self.entities],
        }
        if self.labels is not None:
            own["labels"] = [label.as_json() for label in self.labels]
        return {**own, **self.extra}


class Refusal(ValueError):
    """A document can't be taken; `at` is the field's path in it."""

    def __init__(self, at: str, message: str) -> None:
        super().__init__(f"{at}: {message}" if at else message)
        self.at, self.why = at, message


def read_documents(path: Path, name: str) -> list[Document]:
    """The documents of a file, repaired where JacRED's one-token-short spans allow it. Raises InvalidInput."""
    return [
        repaired(document, f"{name}: document {n}")
        for n, document in enumerate(parse_documents(path.read_bytes(), name))
    ]


def parse_documents(data: bytes, name: str) -> list[Document]:
    """A JSON array of documents, or JSONL. Raises InvalidInput naming file, document and field."""
    documents = []
    for number, value in enumerate(_values(data, name)):
        try:
            documents.append(document_of(value))
        except Refusal as refusal:
            title = value.get("title") if isinstance(value, dict) else None
            raise InvalidInput(f"{name}: document {number} ({str(title)[:80]!r}): {refusal}") from None
    if not documents:
        raise InvalidInput(f"{name} holds no document; give a DocRED JSON array or JSONL with at least one")
    return documents


def dump_documents(documents: Iterable[Document]) -> bytes:
    """A JSON array, one document a line."""
    lines = (json.dumps(document.as_json(), ensure_ascii=False, separators=(",", ":")) for document in documents)
    return ("[" + ",\n".join(lines) + "]\n").encode()


def _values(data: bytes, name: str) -> list[Any]:
    text = decoded(data, name)
    if text.lstrip()[:1] == "[":
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InvalidInput(f"{name} is not JSON: {error}") from None
        assert isinstance(values, list)
        return values
    return [value for _, value in json_lines(text, name)]


def decoded(data: bytes, name: str) -> str:
    """UTF-8 text, a byte order mark dropped. Raises InvalidInput with the line."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{name}: line {line} is not UTF-8 ({error.reason}); convert the file to UTF-8") from None


def json_lines(text: str, name: str) -> list[tuple[int, Any]]:
    """(line number, value) of JSONL. Raises InvalidInput with the line."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append((number, json.loads(line)))
            except ValueError as error:
                raise InvalidInput(f"{name}: line {number} is not JSON: {error}") from None
    return found


# One document ---------------------------------------------------------------------------------------------------------


def document_of(value: Any) -> Document:
    """The document of a JSON value. Raises Refusal naming the field."""
    if not isinstance(value, dict):
        _refuse("", f"expected an object with title, sents and vertexSet, not {type(value).__name__}")
    title = _need(value, "title", str, "")
    sentences = _sentences(value)
    entities = tuple(
        _entity(mentions, sentences, f"vertexSet[{e}]")
        for e, mentions in enumerate(_need(value, "vertexSet", list, ""))
    )
    labels = None
    if value.get("labels") is not None:
        given = _need(value, "labels", list, "")
        labels = tuple(_label(label, len(entities), len(sentences), f"labels[{n}]") for n, label in enumerate(given))
    extra = {key: kept for key, kept in value.items() if key not in DOCUMENT_KEYS}
    return Document(title, sentences, entities, labels, extra)


def _sentences(value: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    sentences = []
    for number, tokens in enumerate(_need(value, "sents", list, "")):
        if not isinstance(tokens, list) or not all(isinstance(token, str) and token for token in tokens):
            _refuse(f"sents[{number}]", "expected a list of tokens, none of them empty")
        if any(any("\ud800" <= c <= "\udfff" or c == "\0" for c in token) for token in tokens):
            _refuse(f"sents[{number}]", "text must not hold NUL or lone surrogates")
        sentences.append(tuple(tokens))
    return tuple(sentences)


def _entity(mentions: Any, sentences: Sequence[Sequence[str]], at: str) -> tuple[Mention, ...]:
    if not isinstance(mentions, list) or not mentions:
        _refuse(at, "an entity is a list with at least one mention")
    found = tuple(_mention(mention, sentences, f"{at}[{n}]") for n, mention in enumerate(mentions))
    _refuse_overlap(found, at)
    return found


def _refuse_overlap(mentions: Sequence[Mention], at: str) -> None:
    """Real data repeats a mention now and then; half of one, in the same entity, is a mistake."""
    ordered = sorted(range(len(mentions)), key=lambda n: (mentions[n].sent_id, mentions[n].start, mentions[n].end))
    for before, after in pairwise(ordered):
        a, b = mentions[before], mentions[after]
        if a.sent_id == b.sent_id and b.start < a.end and (a.start, a.end) != (b.start, b.end):
            _refuse(
                f"{at}[{after}].pos",
                f"[{b.start}, {b.end}] overlaps [{a.start}, {a.end}] of the same entity in sentence {a.sent_id}; "
                "mentions of one entity must not overlap",
            )


def _mention(value: Any, sentences: Sequence[Sequence[str]], at: str) -> Mention:
    if not isinstance(value, dict):
        _refuse(at, "a mention is an object with name, sent_id, pos and type")
    sent_id = _need(value, "sent_id", int, at)
    if not 0 <= sent_id < len(sentences):
        _refuse(f"{at}.sent_id", f"{sent_id} is outside the document's {len(sentences)} sentences")
    pos = _need(value, "pos", list, at)
    if len(pos) != 2 or not all(isinstance(end, int) and not isinstance(end, bool) for end in pos):
        _refuse(f"{at}.pos", "expected [start, end), two token offsets")
    start, end = pos
    if not 0 <= start <= end <= len(sentences[sent_id]) or start == len(sentences[sent_id]):
        _refuse(f"{at}.pos", f"[{start}, {end}] is outside sentence {sent_id} of {len(sentences[sent_id])} tokens")
    extra = {key: kept for key, kept in value.items() if key not in MENTION_KEYS}
    return Mention(_need(value, "name", str, at), sent_id, start, end, _need(value, "type", str, at), extra)


def _label(value: Any, entities: int, sentences: int, at: str) -> Label:
    if not isinstance(value, dict):
        _refuse(at, "a label is an object with h, t, r and evidence")
    head, tail, relation = (_need(value, key, kind, at) for key, kind in (("h", int), ("t", int), ("r", str)))
    for key, index in (("h", head), ("t", tail)):
        if not 0 <= index < entities:
            _refuse(f"{at}.{key}", f"{index} is outside the document's {entities} entities")
    if head == tail:
        _refuse(f"{at}.t", f"head and tail are the same entity {head}")
    extra = {key: kept for key, kept in value.items() if key not in LABEL_KEYS}
    return Label(head, tail, relation, evidence_of(value, sentences, at), extra)


def evidence_of(value: Mapping[str, Any], sentences: int, at: str) -> tuple[int, ...] | None:
    """The evidence of a label; None where there is none. Raises Refusal."""
    if "evidence" not in value:
        return None
    given = value["evidence"]
    if not isinstance(given, list) or not all(isinstance(n, int) and 0 <= n < sentences for n in given):
        _refuse(f"{at}.evidence", f"expected indices of the document's {sentences} sentences")
    return tuple(given)


def _need(value: Mapping[str, Any], key: str, kind: type, at: str) -> Any:
    path = f"{at}.{key}" if at else key
    if key not in value:
        _refuse(path, "is missing")
    found = value[key]
    if not isinstance(found, kind) or isinstance(found, bool):
        _refuse(path, f"expected {kind.__name__}, not {type(found).__name__}")
    return found


def _refuse(at: str, message: str) -> NoReturn:
    raise Refusal(at, message)


# JacRED's short spans -------------------------------------------------------------------------------------------------


def repaired(document: Document, name: str) -> Document:
    """JacRED's `pos` is one token short in some mentions: name ≠ tokens [a, b) and name = tokens [a, b+1) mends it.

    Raises InvalidInput where a span stays empty.
    """
    entities = tuple(tuple(_lengthened(m, document) for m in entity) for entity in document.entities)
    for e, entity in enumerate(entities):
        for n, mention in enumerate(entity):
            if mention.start == mention.end:
                raise InvalidInput(
                    f"{name} ({document.title[:80]!r}): vertexSet[{e}][{n}].pos is empty and its name "
                    f"{mention.name!r} doesn't say which token is meant"
                )
    return document if entities == document.entities else replace(document, entities=entities)


def _lengthened(mention: Mention, document: Document) -> Mention:
    tokens = document.sentences[mention.sent_id]
    name = _bare(mention.name)
    if name == _bare("".join(tokens[mention.start : mention.end])) or mention.end == len(tokens):
        return mention
    is_one_short = name == _bare("".join(tokens[mention.start : mention.end + 1]))
    return replace(mention, end=mention.end + 1) if is_one_short else mention


def _bare(text: str) -> str:
    """NFKC without white space."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))
