"""Projects: documents, recommendations and annotators, frozen when the project is made; and the logs beside them.

    annotation/<project>/documents.json, recommendations.json, project.json

`project.json` is written last: a project exists whole or not at all.
"""

import json
import random
import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

from services.annotation.decisions import ADJUDICATOR, AnnotatorList, annotator_list
from services.annotation.log import Event, EventLog, require_exclusive_writes
from shared.artifacts import ArtifactStore
from shared.jobs.errors import NotFound
from shared.relations.documents import Document, dump_documents, parse_documents

ROOT = "annotation"
KEPT = 16  # projects in memory
EVENT_KEY = re.compile(r"(\d+)/\d{8}\.json")


@dataclass(frozen=True)
class Terms:
    """What a project is made of."""

    id: str
    name: str | None
    owner: str
    created_at: str
    annotators: tuple[str, ...]
    blind_share: float
    double_share: float
    relations: dict[str, str]
    seed: int
    sources: dict[str, Any]
    inverses: dict[str, list[str]] = field(default_factory=dict)


class Project:
    """One project, open."""

    def __init__(
        self, terms: Terms, documents: list[Document], recommended: list[list[Any]], store: ArtifactStore
    ) -> None:
        self.terms, self.documents, self._recommended = terms, documents, recommended
        self._store, self._folder = store, f"{ROOT}/{terms.id}"
        self._logs = [EventLog(store, f"{self._folder}/{number}") for number in range(len(documents))]
        self._lock = Lock()

    @cached_property
    def blind(self) -> frozenset[int]:
        """Documents shown without recommendations, to measure anchoring."""
        count = round(self.terms.blind_share * len(self.documents))
        return frozenset(random.Random(f"blind {self.terms.seed}").sample(range(len(self.documents)), count))

    @cached_property
    def double(self) -> frozenset[int]:
        """Documents of two annotators."""
        count = round(self.terms.double_share * len(self.documents)) if len(self.terms.annotators) > 1 else 0
        return frozenset(random.Random(f"double {self.terms.seed}").sample(range(len(self.documents)), count))

    def assigned(self, document: int) -> tuple[str, ...]:
        """Who is to annotate it; empty: anybody."""
        people = self.terms.annotators
        if not people:
            return ()
        first = document % len(people)
        return (people[first], people[(first + 1) % len(people)]) if document in self.double else (people[first],)

    def recommendations(self, document: int) -> list[dict[str, Any]]:
        return [] if document in self.blind else self._recommended[document]

    def all_recommendations(self, document: int) -> list[dict[str, Any]]:
        """Of a blind document, too: what the model thinks, not what is shown."""
        return self._recommended[document]

    def events(self, document: int) -> list[Event]:
        with self._lock:
            return self._logs[document].events()

    def all_events(self) -> list[list[Event]]:
        """Every document's log: one listing and the blobs that are new, however many documents there are."""
        keys = (blob.key.removeprefix(f"{self._folder}/") for blob in self._store.blobs(self._folder))
        counts = Counter(found[1] for key in keys if (found := EVENT_KEY.fullmatch(key)))
        with self._lock:
            missing = [key for n, log in enumerate(self._logs) for key in log.missing(counts[str(n)])]
            blobs = self._store.get_all(missing)
            return [log.take(blobs) for log in self._logs]

    def append(self, document: int, event: Event, version: int) -> int:
        with self._lock:
            return self._logs[document].append(event, version)

    def list_of(self, document: int, annotator: str, events: Sequence[Event] | None = None) -> AnnotatorList:
        given = self.events(document) if events is None else events
        if annotator == ADJUDICATOR:
            return self._adjudicated(document, given)
        return annotator_list(self.recommendations(document), given, annotator)

    def active(self, document: int, events: Sequence[Event] | None = None) -> list[str]:
        """Who has acted on it, in order of appearance, adjudication aside."""
        given = self.events(document) if events is None else events
        return [name for name in dict.fromkeys(event["annotator"] for event in given) if name != ADJUDICATOR]

    def _adjudicated(self, document: int, events: Sequence[Event]) -> AnnotatorList:
        """Starts from what all annotators agree on; the adjudicator's own events follow."""
        lists = [annotator_list(self.recommendations(document), events, name) for name in self.active(document, events)]
        agreed = set.intersection(*(each.final for each in lists)) if lists else set()
        start = [
            {"h": t.head, "t": t.tail, "r": t.relation, "evidence": lists[0].entries[t].evidence}
            for t in sorted(agreed)
        ]
        return annotator_list(start, events, ADJUDICATOR)

    def settled(self, document: int, events: Sequence[Event]) -> AnnotatorList:
        """The list that is exported: the adjudicated one, the only one, or what all agree on."""
        people = self.active(document, events)
        if len(people) == 1 and not any(event["annotator"] == ADJUDICATOR for event in events):
            return self.list_of(document, people[0], events)
        if not people:
            return annotator_list(self.recommendations(document), (), "")
        return self._adjudicated(document, events)


class Projects:
    """All projects of an artifact store."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts, self._is_exclusive = artifacts, False
        self._open: OrderedDict[str, Project] = OrderedDict()
        self._lock = Lock()

    def create(self, terms: Terms, documents: list[Document], recommended: list[list[Any]]) -> Project:
        folder = f"{ROOT}/{terms.id}"
        if not self._is_exclusive:
            require_exclusive_writes(self._artifacts, ROOT)
            self._is_exclusive = True
        self._artifacts.put_bytes(f"{folder}/documents.json", dump_documents(documents))
        self._artifacts.put_bytes(f"{folder}/recommendations.json", json.dumps(recommended).encode())
        about = {**terms.__dict__, "annotators": list(terms.annotators)}
        self._artifacts.put_bytes(f"{folder}/project.json", json.dumps(about, ensure_ascii=False).encode())
        return self.find(terms.id)

    def find(self, project_id: str) -> Project:
        """Raises NotFound."""
        with self._lock:
            if project_id not in self._open:
                self._open[project_id] = self._read(project_id)
                if len(self._open) > KEPT:
                    self._open.popitem(last=False)
            self._open.move_to_end(project_id)
            return self._open[project_id]

    def ids(self) -> list[str]:
        """Newest first."""
        names = self._artifacts.folders(ROOT)
        return sorted((name for name in names if self._artifacts.exists(f"{ROOT}/{name}/project.json")), reverse=True)

    def _read(self, project_id: str) -> Project:
        folder = f"{ROOT}/{project_id}"
        try:
            about = json.loads(self._artifacts.get_bytes(f"{folder}/project.json"))
        except FileNotFoundError:
            raise NotFound(f"there is no project {project_id}") from None
        documents = parse_documents(self._artifacts.get_bytes(f"{folder}/documents.json"), "documents")
        recommended = json.loads(self._artifacts.get_bytes(f"{folder}/recommendations.json"))
        return Project(
            Terms(**{**about, "annotators": tuple(about["annotators"])}), documents, recommended, self._artifacts
        )
