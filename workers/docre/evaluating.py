"""`docre.evaluate`: predictions against gold, in parts, as a cross-lingual table, with the transfer-gap report."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from shared.jobs.catalog.docre.evaluation import (
    Cell,
    Entry,
    EvaluateParams,
    EvaluateResult,
    FalseNegatives,
    Gap,
    Prf,
)
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.metrics.relations import (
    PRF,
    Judged,
    Part,
    Prediction,
    by_distance,
    by_frequency,
    by_long_distance,
    by_names,
    by_relation,
    facts_of,
    judge,
    parts,
    recall_by_evidence,
    score,
)
from shared.relations.documents import Document, Triple, read_documents
from shared.relations.effort import edit_steps
from workers.docre.figures import evaluation_figures
from workers.docre.inventories import KNOWN, SHARED
from workers.docre.pairs import require_known, require_labels
from workers.docre.predictions import numbered, read_predictions
from workers.docre.training import read_inventory

MOST_FALSE_NEGATIVES = 20
CANT_SEPARATE = (
    "Both models are tested on the same documents, so a difference of topics between transferred and native documents "
    "plays no part here; what is measured is the mismatch of surface and structure alone, which works both ways."
)


@dataclass(frozen=True)
class Given:
    """What an entry names."""

    entry: Entry
    predictions: list[Prediction]
    gold: list[Document]
    training: list[Document] | None


@dataclass(frozen=True)
class Measured:
    """An entry with all that was read for it."""

    entry: Entry
    judged: Judged
    training: list[Document] | None
    cell: Cell


class Evaluation:
    """One `docre.evaluate` job."""

    def __init__(self, params: EvaluateParams, ctx: JobContext) -> None:
        self._params, self._ctx = params, ctx
        self._names = (
            read_inventory(ctx.input(params.relations), f"relations ({params.relations})") if params.relations else None
        )

    def run(self) -> EvaluateResult:
        given = [self._read(entry, f"entries[{number}]") for number, entry in enumerate(self._params.entries)]
        total, done, measured = sum(len(each.gold) for each in given), 0, []
        for each in given:
            measured.append(self._measure(each))
            done += len(each.gold)
            self._ctx.progress(done, total, "documents")
        gaps = self._gaps(measured)
        cells = [each.cell for each in measured]
        result = EvaluateResult(cells=cells, gap=gaps)
        per_relation = {
            f"{each.entry.trained_on} → {each.entry.tested_on}": {
                relation: _prf(score(part).relation).model_dump() | {"gold": len(part.gold)}
                for relation, part in parts(each.judged, by_relation).items()
            }
            for each in measured
        }
        self._ctx.write_json("evaluation.json", {**result.model_dump(mode="json"), "per_relation": per_relation})
        for name, figure in evaluation_figures(cells, gaps).items():
            self._ctx.write_json(name, figure)
        return result

    def _read(self, entry: Entry, at: str) -> Given:
        """All that an entry names, checked. Raises InvalidInput naming entry, document and field."""
        gold = self._documents(entry.gold, f"{at}.gold")
        training = None if entry.train is None else self._documents(entry.train, f"{at}.train")
        predictions = read_predictions(self._ctx, entry.predictions, gold, f"{at}.predictions")
        for known, name in self._inventories():
            for unknown in sorted({p.key.relation for p in predictions} - known):
                raise InvalidInput(f"{at}.predictions: r: {unknown!r} is not in {name}")
        return Given(entry, predictions, gold, training)

    def _documents(self, ref: Ref, name: str) -> list[Document]:
        documents = read_documents(self._ctx.input(ref), f"{name} ({ref})")
        require_labels(documents, f"{name} ({ref})")
        for known, _ in self._inventories():
            require_known(documents, known, f"{name} ({ref})")
        return numbered(documents)

    def _inventories(self) -> list[tuple[frozenset[str], str]]:
        """What every relation must be in, with a name for it."""
        found = [] if self._names is None else [(frozenset(self._names), "relations")]
        shared = [(KNOWN, "DocRED's or JacRED's inventory, which only_shared_relations compares")]
        return found + (shared if self._params.only_shared_relations else [])

    def _measure(self, given: Given) -> Measured:
        judged = judge(given.predictions, given.gold)
        if self._params.only_shared_relations:
            judged = _restricted(judged)
        return Measured(given.entry, judged, given.training, self._cell(given, judged))

    def _cell(self, given: Given, judged: Judged) -> Cell:
        entry, training = given.entry, given.training
        found = score(judged, facts_of(training) if training else frozenset(), self._params.compat)
        rules: list[Part] = [by_distance, by_long_distance, by_frequency]
        if training:
            rules.append(by_names(training))
        split = {name: part for rule in rules for name, part in parts(judged, rule).items()}
        return Cell(
            trained_on=entry.trained_on, tested_on=entry.tested_on, predicted=found.predicted, gold=found.gold,
            relation=_prf(found.relation), ign=_prf(found.ign) if training else None, evidence=_prf(found.evidence),
            parts={name: _prf(score(part).relation) for name, part in split.items()},
            recall_by_evidence=recall_by_evidence(judged), mean_steps=_mean_steps(judged, given.gold),
        )  # fmt: skip

    # The gap ----------------------------------------------------------------------------------------------------------

    def _gaps(self, measured: Sequence[Measured]) -> list[Gap]:
        if self._params.gap is None:
            return []
        native, transferred = self._params.gap
        rows = {
            name: {each.entry.tested_on: each for each in measured if each.entry.trained_on == name}
            for name in (native, transferred)
        }
        both = [name for name in rows[native] if name in rows[transferred]]
        if not both:
            raise InvalidInput(f"gap: {native} and {transferred} have no tested_on in common")
        return [self._gap(rows[native][name], rows[transferred][name]) for name in both]

    def _gap(self, native: Measured, transferred: Measured) -> Gap:
        if native.judged.gold.keys() != transferred.judged.gold.keys():
            raise InvalidInput(f"gap: the entries tested on {native.entry.tested_on} have different gold")
        a, b = native.cell.relation, transferred.cell.relation
        documents = list(native.judged.documents.values())
        divergence = None
        if native.training and transferred.training:
            divergence = jensen_shannon(_distribution(native.training), _distribution(transferred.training))
        return Gap(
            tested_on=native.entry.tested_on, recall_difference=a.r - b.r, precision_difference=a.p - b.p,
            f1_difference=a.f1 - b.f1, label_divergence=divergence,
            vocabulary_overlap=_overlap(documents, transferred.training),
            native_vocabulary_overlap=_overlap(documents, native.training),
            false_negatives=self._false_negatives(native.judged, transferred.judged), says=CANT_SEPARATE,
        )  # fmt: skip

    def _false_negatives(self, native: Judged, transferred: Judged) -> list[FalseNegatives]:
        gold = Counter(key.relation for key in native.gold)
        missed = [
            Counter(key.relation for key in judged.gold if key not in judged.predicted)
            for judged in (native, transferred)
        ]
        ordered = sorted(gold, key=lambda r: (missed[0][r] - missed[1][r], -gold[r], r))[:MOST_FALSE_NEGATIVES]
        return [
            FalseNegatives(
                relation=r, name=(self._names or {}).get(r), gold=gold[r], missed_native=missed[0][r],
                missed_transferred=missed[1][r],
            )
            for r in ordered
        ]  # fmt: skip


def _prf(found: PRF) -> Prf:
    return Prf(p=found.p, r=found.r, f1=found.f1)


def _restricted(judged: Judged) -> Judged:
    """Only relations that both inventories have."""
    predicted, gold = (
        {key: evidence for key, evidence in side.items() if key.relation in SHARED}
        for side in (judged.predicted, judged.gold)
    )
    return Judged(predicted, gold, judged.documents)


def _mean_steps(judged: Judged, gold: Sequence[Document]) -> float:
    by_title: dict[str, tuple[set[Triple], set[Triple]]] = {document.title: (set(), set()) for document in gold}
    for side, keys in enumerate((judged.predicted, judged.gold)):
        for key in keys:
            if key.title in by_title:
                by_title[key.title][side].add(key.triple)
    return fmean(edit_steps(r, g).steps for r, g in by_title.values())


def _distribution(documents: Sequence[Document]) -> dict[str, float]:
    counts = Counter(label.relation for document in documents for label in document.labels or ())
    return {relation: count / counts.total() for relation, count in counts.items()}


def jensen_shannon(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2, in bits: 0 for equal distributions, 1 for disjoint ones."""
    total = 0.0
    for key in p.keys() | q.keys():
        m = (p.get(key, 0.0) + q.get(key, 0.0)) / 2
        total += sum(0.5 * each * math.log2(each / m) for each in (p.get(key, 0.0), q.get(key, 0.0)) if each)
    return total


def _overlap(documents: Sequence[Document], training: Sequence[Document] | None) -> float | None:
    """The share of test word forms (types) that training has."""
    if training is None:
        return None
    test, known = (
        {token.lower() for document in docs for sentence in document.sentences for token in sentence if token.isalpha()}
        for docs in (documents, training)
    )
    return len(test & known) / len(test) if test else None
