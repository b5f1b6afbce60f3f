"""Predictions as files: the official list, recommendations, or documents whose labels are the predictions.

A prediction is matched to its document by title. Titles may repeat in people's data: `numbered` tells such documents
apart, and predictions that come document by document are numbered in the same way.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.metrics.relations import Key, Prediction
from shared.relations.documents import Document, decoded, read_documents

NUMBER = "\0"
"""Stands between a title and which of its documents is meant: no title holds it."""


def numbered(documents: Iterable[Document]) -> list[Document]:
    """Documents that titles tell apart: the second of a title becomes its number 2."""
    documents = list(documents)
    titles = _numbered_titles([document.title for document in documents])
    return [
        document if document.title == title else replace(document, title=title)
        for document, title in zip(documents, titles, strict=True)
    ]


def bare_title(title: str) -> str:
    return title.partition(NUMBER)[0]


def _numbered_titles(titles: Iterable[str]) -> list[str]:
    seen: Counter[str] = Counter()
    found = []
    for title in titles:
        seen[title] += 1
        found.append(title if seen[title] == 1 else f"{title}{NUMBER}{seen[title]}")
    return found


def official(predictions: Iterable[Prediction]) -> list[dict[str, Any]]:
    """`[{title, h_idx, t_idx, r, evidence}]`."""
    return [
        {"title": bare_title(p.key.title), "h_idx": p.key.head, "t_idx": p.key.tail, "r": p.key.relation,
         "evidence": list(p.evidence)}
        for p in predictions
    ]  # fmt: skip


def read_predictions(ctx: JobContext, ref: Ref, gold: Sequence[Document], name: str) -> list[Prediction]:
    """The official list, recommendations of docre.recommend, or documents whose labels are the predictions."""
    path, name = ctx.input(ref), f"{name} ({ref})"
    text = decoded(path.read_bytes(), name)
    try:
        value = (
            json.loads(text) if text.lstrip()[:1] == "[" else [json.loads(line) for line in text.splitlines() if line]
        )
    except ValueError as error:
        raise InvalidInput(f"{name} is not JSON: {error}") from None
    if value and isinstance(value[0], dict) and "sents" in value[0]:
        return [
            Prediction(Key(document.title, *label.triple), label.evidence or ())
            for document in numbered(read_documents(path, name))
            for label in document.labels or ()
        ]
    sizes = {document.title: len(document.entities) for document in gold}
    if value and isinstance(value[0], dict) and "recommendations" in value[0]:
        return _of_recommendations(value, name, sizes)
    for n, entry in enumerate(value):
        if isinstance(entry, dict) and f"{entry.get('title')}{NUMBER}2" in sizes:
            raise InvalidInput(
                f"{name}: [{n}].title: several gold documents are titled {str(entry['title'])[:80]!r}; make titles "
                "unique, or give predictions document by document"
            )
    return [_entry(entry, f"{name}: [{n}]", sizes) for n, entry in enumerate(value)]


def _of_recommendations(lines: Sequence[Any], name: str, sizes: Mapping[str, int]) -> list[Prediction]:
    """Lines of docre.recommend, one a document."""
    if not all(isinstance(line, dict) and isinstance(line.get("recommendations"), list) for line in lines):
        raise InvalidInput(f"{name}: expected {{title, recommendations}} in every line")
    found = []
    for n, title in enumerate(_numbered_titles(str(line.get("title")) for line in lines)):
        for m, each in enumerate(lines[n]["recommendations"]):
            own = each if isinstance(each, dict) else {}
            row = {"title": title, "h_idx": own.get("h"), "t_idx": own.get("t"), "r": own.get("r")}
            found.append(_entry({**row, "evidence": own.get("evidence")}, f"{name}: [{n}].recommendations[{m}]", sizes))
    return found


def _entry(entry: object, at: str, sizes: Mapping[str, int]) -> Prediction:
    fields = ("title", str), ("h_idx", int), ("t_idx", int), ("r", str)
    if not isinstance(entry, dict):
        raise InvalidInput(f"{at}: expected {{title, h_idx, t_idx, r, evidence}}")
    for field, kind in fields:
        if not isinstance(entry.get(field), kind):
            raise InvalidInput(f"{at}.{field}: expected {kind.__name__}")
    size = sizes.get(entry["title"])
    for field in ("h_idx", "t_idx"):
        if entry[field] < 0 or (size is not None and entry[field] >= size):
            raise InvalidInput(f"{at}.{field}: {entry[field]} is no entity of {bare_title(entry['title'])[:80]!r}")
    key = Key(*(entry[field] for field, _ in fields))
    return Prediction(key, tuple(n for n in entry.get("evidence") or () if isinstance(n, int)))
