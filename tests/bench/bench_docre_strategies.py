"""Every marking strategy on the same real sentences through Apertium: what it recovers, and what it does to the text.

    ./tenfold bench docre_strategies [--quick]

`ours` is the share of mentions that the marks alone give a span. *Exact*: the span's text equals that of the engine's
own word provenance; *unchanged*: the translation equals that of the text without marks; chrF between the two. What
falls back to alignment in a job counts as not recovered here. Documents are all those of
`$TENFOLD_REAL_DATA/docre_transfer` in English.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from shared.jobs.errors import InvalidInput
from shared.metrics.chrf import chrf
from shared.relations.documents import Document, read_documents
from tests.bench.docre_peers import SuperblankTranslator, by_eflomal, eflomal_is_missing
from workers.docre.locating import filled, located
from workers.docre.marking import by_placeholder, by_provenance
from workers.docre.placing import STRATEGIES
from workers.docre.runs import SourceSentence, sentences_of
from workers.docre.targets import Rules, TargetSentence
from workers.docre.translators import Translated, plain
from workers.docre.translators.apertium import ApertiumTranslator

SHARD = 50
FILES = ("redocred_train.json", "redocred_test.json", "revisit_from_scratch.json")
MINILM_DOCUMENTS = 40
Row = dict[str, Any]
Sentences = Sequence[SourceSentence]
Strategy = Callable[[Sentences], list[TargetSentence]]


class Figures(NamedTuple):
    """One row of the table, shares of 1."""

    recovered: float
    entities: float
    relations: float
    documents: float
    exact: float
    unchanged: float
    chrf: float


class Corpus:
    """Documents in shards, translated without marks once."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.engine = ApertiumTranslator("eng", "spa", 600)
        self.documents = documents
        self.sources = [sentences_of(document) for document in documents]
        self.shards = [
            [each.sentence for own in self.sources[n : n + SHARD] for each in own]
            for n in range(0, len(documents), SHARD)
        ]
        self.plainly = [self.engine.translate([plain(s.text) for s in shard]) for shard in self.shards]
        self.reference = self.names(self.placed(partial(by_provenance, engine=self.engine, rules=Rules())))

    def placed(self, strategy: Strategy) -> list[TargetSentence]:
        return [target for shard in self.shards for target in strategy(shard)]

    def after_plain(self, place: Callable[[Sentences, list[Translated]], list[TargetSentence]]) -> list[TargetSentence]:
        return [t for shard, said in zip(self.shards, self.plainly, strict=True) for t in place(shard, said)]

    def names(self, targets: Sequence[TargetSentence]) -> list[list[str | None]]:
        """Each mention's text, None where the marks gave no span."""
        return [
            [
                None if p.span is None or p.status == "recovered_by_align" else t.text[p.span.start : p.span.end]
                for p in t.placed
            ]
            for t in targets
        ]

    def figures(self, targets: Sequence[TargetSentence]) -> Figures:
        names = self.names(targets)
        for target in targets:  # every span lies in its text
            assert all(p.span is None or 0 <= p.span.start < p.span.end <= len(target.text) for p in target.placed)
        pairs = [pair for own, ref in zip(names, self.reference, strict=True) for pair in zip(own, ref, strict=True)]
        texts = [(t.text, said.text) for t, said in zip(targets, (a for own in self.plainly for a in own), strict=True)]
        return Figures(
            recovered=_share([own is not None for own, _ in pairs]),
            **self._kept(names),
            exact=_share([own is not None and own == ref for own, ref in pairs]),
            unchanged=_share([own == other for own, other in texts]),
            chrf=chrf(texts),
        )

    def _kept(self, names: Sequence[Sequence[str | None]]) -> dict[str, float]:
        """Entities, relations and whole documents that are left."""
        entities, relations, documents, at = [], [], [], 0
        for document, sentences in zip(self.documents, self.sources, strict=True):
            left = set()
            for source in sentences:
                left |= {e for (e, _), name in zip(source.keys, names[at], strict=True) if name is not None}
                at += 1
            entities += [e in left for e in range(len(document.entities))]
            relations += [label.head in left and label.tail in left for label in document.labels or ()]
            documents.append(len(left) == len(document.entities))
        return {"entities": _share(entities), "relations": _share(relations), "documents": _share(documents)}


def rows(quick: bool = False) -> list[Row]:
    """A row per strategy."""
    documents = real_documents()
    if documents is None:
        return [_skipped("strategies", "no real documents; set TENFOLD_REAL_DATA")]
    try:
        corpus = Corpus(documents[:15] if quick else documents)
    except InvalidInput as missing:
        return [_skipped("strategies", str(missing))]
    return [*table(corpus), _minilm(documents[: 3 if quick else MINILM_DOCUMENTS])]


def table(corpus: Corpus) -> list[Row]:
    engine, rules = corpus.engine, Rules()
    marked: dict[str, Strategy] = {
        "word-bound blanks": partial(by_provenance, engine=engine, rules=rules),
        "classic superblank tags": partial(by_provenance, engine=SuperblankTranslator(), rules=rules),
        "XML tags as plain text": partial(STRATEGIES["tags"], engine=engine, rules=rules),
        "square brackets": partial(STRATEGIES["brackets"], engine=engine, rules=rules),
        "placeholder ENT0": partial(by_placeholder, engine=engine, rules=rules),
        "placeholder __0__": partial(by_placeholder, engine=engine, rules=rules, form="__{}__"),
    }
    found = {name: corpus.placed(strategy) for name, strategy in marked.items()}
    exact = corpus.after_plain(lambda own, said: located(own, said, engine, None))
    aligned = corpus.placed(partial(STRATEGIES["align"], engine=engine, rules=rules))
    found |= {
        "plain + exact find": exact,
        "plain + fuzzy find, ratio 0.7": corpus.after_plain(lambda own, said: located(own, said, engine, 0.7)),
        "plain + our aligner": aligned,
        "plain + exact find, else our aligner": filled(exact, aligned, None),
    }
    if eflomal_is_missing() is None:
        linked = corpus.after_plain(by_eflomal)
        found |= {"plain + eflomal": linked, "plain + exact find, else eflomal": filled(exact, linked, None)}
    made = [_row(name, corpus.figures(targets), len(corpus.documents)) for name, targets in found.items()]
    return made + ([_skipped("plain + eflomal", why)] if (why := eflomal_is_missing()) else [])


def real_documents() -> list[Document] | None:
    """All real English documents; None where there are none."""
    root = Path(os.environ.get("TENFOLD_REAL_DATA") or Path(__file__).parents[3] / "shared" / "data")
    folder = root / "docre_transfer"
    if not folder.is_dir():
        return None
    return [document for name in FILES for document in read_documents(folder / name, name)]


def _minilm(documents: Sequence[Document]) -> Row:
    """Token similarity of an English encoder, mutual argmax: why a multilingual one is needed."""
    from tests.bench.docre_similarity import by_similarity, is_missing

    what = f"plain + MiniLM token similarity ({len(documents)} documents)"
    if why := is_missing():
        return _skipped(what, why)
    corpus = Corpus(documents)
    return _row("plain + MiniLM token similarity", corpus.figures(corpus.after_plain(by_similarity)), len(documents))


def _row(name: str, f: Figures, documents: int) -> Row:
    what = (
        f"{name}: entities {f.entities:.2%}, relations {f.relations:.2%}, documents {f.documents:.1%}, "
        f"exact {f.exact:.1%}, unchanged {f.unchanged:.1%}, chrF {f.chrf:.3f}"
    )
    return {"what": what, "ours": round(f.recovered, 5), "peer": None, "peer_name": None,
            "unit": f"mentions recovered, {documents} documents", "ratio": None, "spread": None,
            "goal": 1.0 if name == "word-bound blanks" else None}  # fmt: skip


def _skipped(what: str, why: str) -> Row:
    return {"what": what, "ours": f"skipped: {why}", "peer": None, "peer_name": None, "unit": None, "ratio": None,
            "spread": None, "goal": None}  # fmt: skip


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 1.0
