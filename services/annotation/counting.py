"""What a project's logs add up to: counters, agreement, anchoring, the relations seen, and what is disputed."""

from collections import Counter
from itertools import combinations
from typing import Any

from services.annotation.decisions import ADJUDICATOR, AnnotatorList
from services.annotation.log import Event
from services.annotation.projects import Project
from services.annotation.views import Counters
from shared.relations.documents import Triple
from shared.relations.effort import agreement


def counters_of(lists: list[AnnotatorList]) -> dict[str, Any]:
    """Over lists."""
    decisions = [entry.decision for each in lists for entry in each.entries.values()]
    steps = [each.steps for each in lists]
    return Counters(
        accepted=decisions.count("accepted"), rejected=decisions.count("rejected"), added=decisions.count("added"),
        undecided=decisions.count("undecided"), steps=sum(each.steps for each in steps),
        scratch=sum(each.scratch for each in steps), actions=sum(each.actions for each in lists),
        seconds=round(sum(each.seconds for each in lists), 3),
    ).model_dump()  # fmt: skip


def item_view(project: Project) -> dict[str, Any]:
    terms = project.terms
    return {"id": terms.id, "name": terms.name, "owner": terms.owner, "created_at": terms.created_at,
            "documents": len(project.documents)}  # fmt: skip


def project_view(project: Project) -> dict[str, Any]:
    terms = project.terms
    by_document = [
        {name: project.list_of(n, name, events) for name in project.active(n, events)}
        for n, events in enumerate(project.all_events())
    ]
    people = list(dict.fromkeys([*terms.annotators, *(name for lists in by_document for name in lists)]))
    own = {name: [lists[name] for lists in by_document if name in lists] for name in people}
    return {
        **item_view(project), "annotators": list(terms.annotators), "blind_share": terms.blind_share,
        "double_share": terms.double_share, "relations": terms.relations, "sources": terms.sources,
        "complete": sum(_is_complete(project, n, lists) for n, lists in enumerate(by_document)),
        "counters": counters_of([each for lists in own.values() for each in lists]),
        "by_annotator": {name: counters_of(lists) for name, lists in own.items()},
        "agreement": _agreement(project, by_document), "anchoring": _anchoring(project, by_document),
        "inverses": terms.inverses, "observed": _observed(project, by_document),
    }  # fmt: skip


def _is_complete(project: Project, number: int, lists: dict[str, AnnotatorList]) -> bool:
    wanted = project.assigned(number) or tuple(lists)
    return bool(wanted) and all(name in lists and lists[name].is_complete for name in wanted)


def _observed(project: Project, by_document: list[dict[str, AnnotatorList]]) -> dict[str, list[str]]:
    """Relations by type pair, commonest first: what was recommended anywhere, and what people have kept or added."""
    found: dict[str, Counter[str]] = {}
    for number, (document, lists) in enumerate(zip(project.documents, by_document, strict=True)):
        seen = {Triple(each["h"], each["t"], each["r"]) for each in project.all_recommendations(number)}
        for triple in seen.union(*(each.final for each in lists.values())):
            pair = f"{document.entity_type(triple.head)}>{document.entity_type(triple.tail)}"
            found.setdefault(pair, Counter())[triple.relation] += 1
    return {pair: sorted(own, key=lambda r: (-own[r], r)) for pair, own in sorted(found.items())}


def _agreement(project: Project, by_document: list[dict[str, AnnotatorList]]) -> dict[str, Any]:
    relations = len(project.terms.relations) or len(
        {t.relation for ls in by_document for x in ls.values() for t in x.final}
    )
    values, documents = [], 0
    for document, lists in zip(project.documents, by_document, strict=True):
        done = [each for each in lists.values() if each.is_complete]
        documents += len(done) > 1
        n = len(document.entities)
        values += [agreement(a.final, b.final, n * (n - 1), relations) for a, b in combinations(done, 2)]
    return {
        "documents": documents,
        "f1": _mean([each.f1 for each in values if each.f1 is not None]),
        "kappa": _mean([each.kappa for each in values if each.kappa is not None]),
    }


def _anchoring(project: Project, by_document: list[dict[str, AnnotatorList]]) -> dict[str, Any]:
    sizes: dict[bool, list[float]] = {True: [], False: []}
    for number, lists in enumerate(by_document):
        sizes[number in project.blind] += [len(each.final) for each in lists.values() if each.is_complete]
    return {
        "documents_blind": len(sizes[True]), "documents_recommended": len(sizes[False]),
        "labels_blind": _mean(sizes[True]), "labels_recommended": _mean(sizes[False]),
    }  # fmt: skip


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def adjudication_item(project: Project, number: int, events: list[Event]) -> dict[str, Any] | None:
    """What the document's annotators disagree on; None with fewer than two."""
    people = project.active(number, events)
    if len(people) < 2:
        return None
    finals = {name: project.list_of(number, name, events).final for name in people}
    agreed, every = set.intersection(*finals.values()), set.union(*finals.values())
    settled = project.list_of(number, ADJUDICATOR, events)
    disputed = [
        {"h": t.head, "t": t.tail, "r": t.relation, "has": [name for name in people if t in finals[name]],
         "has_not": [name for name in people if t not in finals[name]]}
        for t in sorted(every - agreed)
    ]  # fmt: skip
    return {"id": number, "title": project.documents[number].title, "version": len(events), "annotators": people,
            "agreed": len(agreed), "disputed": disputed, "is_settled": settled.is_complete}  # fmt: skip
