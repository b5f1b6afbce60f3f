"""What the annotation service takes and answers, as models."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.annotation.decisions import ADJUDICATOR, BULK
from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Text

Name = Annotated[Text, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@ -]*$")]
Relation = Annotated[Text, Field(min_length=1, max_length=100)]
Action = Literal[
    "accept", "reject", "add", "relabel", "evidence", "accept_above", "reject_below", "undo", "complete", "reopen"
]
Entity = Annotated[int, Field(ge=0, le=100_000)]
Sentences = Annotated[list[Annotated[int, Field(ge=0, le=100_000)]], Field(max_length=1000)]
Share = Annotated[float, Field(ge=0, le=1)]


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class View(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class NewProject(Body):
    """Documents to annotate, and by whom."""

    documents: Annotated[Ref, Schemes("file", "job", "builtin")]
    """A DocRED JSON array or JSONL with entities; labels in it are ignored."""
    recommendations: Annotated[Ref, Schemes("file", "job")] | None = None
    """recommendations.jsonl of docre.recommend."""
    annotators: Annotated[list[Name], Field(max_length=1000)] = []
    """Who annotates; documents are dealt in turn. Empty: anybody takes the next one."""
    blind_share: Share = 0.1
    """Share of documents shown without recommendations, to measure anchoring."""
    double_share: Share = 0.1
    """Share of documents that two annotators get, to measure agreement; with two annotators or more."""
    name: Annotated[Text, Field(max_length=200)] | None = None
    """For people."""
    relations: Annotated[dict[Relation, Annotated[Text, Field(max_length=200)]], Field(max_length=10_000)] = {}
    """Relation ids with names; where given, others are refused."""
    inverses: Annotated[dict[Relation, Annotated[list[Relation], Field(max_length=100)]], Field(max_length=10_000)] = {}
    """Inverse rules {P155: [P156], …}: what adding a relation offers. Empty: our own."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 66
    """Draws blind and double documents."""

    @model_validator(mode="after")
    def _people_are_people(self) -> Self:
        if len(set(self.annotators)) != len(self.annotators):
            raise ValueError("an annotator is named twice")
        if ADJUDICATOR in self.annotators:
            raise ValueError(f"{ADJUDICATOR!r} is the list that settles disagreements; name annotators otherwise")
        return self


class NewEvent(Body):
    """One action on one document's list."""

    version: Annotated[int, Field(ge=0, le=10_000_000)]
    """The version of the document that the annotator has seen."""
    action: Action
    """accept, reject, add, relabel, evidence: on (h, t, r); accept_above, reject_below: all undecided, by score;
    undo: the last one that stands; complete, reopen."""
    annotator: Name | None = None
    """Whose list; left out: the caller's. `adjudication`: the list that settles disagreements."""
    h: Entity | None = None
    """Head entity."""
    t: Entity | None = None
    """Tail entity."""
    r: Relation | None = None
    """Relation."""
    new_r: Relation | None = None
    """relabel: the relation instead."""
    evidence: Sentences | None = None
    """Sentence indices."""
    score: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None
    """accept_above: from this score on; reject_below: under it."""
    event_id: Annotated[Text, Field(min_length=1, max_length=100)] | None = None
    """The client's own name of the event: sent again, it is applied once."""

    @model_validator(mode="after")
    def _say_what_is_meant(self) -> Self:
        on_list = self.action in ("accept", "reject", "add", "relabel", "evidence")
        if on_list and None in (self.h, self.t, self.r):
            raise ValueError(f"action {self.action} needs h, t and r")
        if not on_list and (self.h, self.t, self.r) != (None, None, None):
            raise ValueError(f"action {self.action} takes no h, t and r")
        if (self.action == "relabel") != (self.new_r is not None):
            raise ValueError("new_r goes with action relabel, and with no other")
        if (self.action in BULK) != (self.score is not None):
            raise ValueError("score goes with accept_above and reject_below, and with no other action")
        if self.action == "evidence" and self.evidence is None:
            raise ValueError("action evidence needs evidence")
        if on_list and self.h == self.t:
            raise ValueError("head and tail are the same entity")
        return self


class EventView(View):
    """An event as it stands in the log."""

    version: int
    action: Action
    annotator: str
    at: datetime
    h: int | None = None
    t: int | None = None
    r: str | None = None
    new_r: str | None = None
    evidence: list[int] | None = None
    score: float | None = None
    event_id: str | None = None


class EventLogView(View):
    """A document's log, oldest first."""

    events: list[EventView]


class Counters(View):
    """What annotating cost."""

    accepted: int
    rejected: int
    added: int
    undecided: int
    steps: int
    """|R \\ G| + |G \\ R|."""
    scratch: int
    """|G|."""
    actions: int
    """Accept, reject, add, relabel, evidence, and one for a decision by score; what was undone is not counted."""
    seconds: float
    """From first to last action; gaps beyond 5 minutes are breaks."""


class Recorded(View):
    """The event stands."""

    version: int
    """The document's version with it."""
    counters: Counters


class EntryView(View):
    """One relation of a list."""

    h: int
    t: int
    r: str
    recommended: bool
    decision: Literal["undecided", "accepted", "rejected", "added"]
    evidence: list[int]
    score: float | None
    p: float | None


class HintView(View):
    """A relation that may hold: offered, never forced."""

    h: int
    t: int
    r: str
    because: str


class DocumentView(View):
    """A document with one annotator's list."""

    id: int
    version: int
    annotator: str
    is_blind: bool
    is_complete: bool
    assigned: list[str]
    document: dict[str, Any]
    """title, sents, vertexSet."""
    entries: list[EntryView]
    without_relation: list[int]
    """Entities in no relation yet."""
    hints: list[HintView]
    """Inverses and transitive relations."""
    counters: Counters


class DocumentItem(View):
    """A document in a listing."""

    id: int
    title: str
    version: int
    is_blind: bool
    assigned: list[str]
    active: list[str]
    """Who has acted on it."""
    complete: list[str]
    """Who has completed it."""
    counters: Counters
    """Over its annotators' lists."""


class DocumentList(View):
    items: list[DocumentItem]


class NextView(View):
    """What an annotator does next."""

    document: int | None
    """None: nothing is left."""
    left: int
    """Documents of the annotator's queue that are not complete."""


class AgreementView(View):
    """Over documents that two or more have completed: the mean over pairs of annotators."""

    documents: int
    f1: float | None
    kappa: float | None


class AnchoringView(View):
    """Completed lists with and without recommendations."""

    documents_blind: int
    documents_recommended: int
    labels_blind: float | None
    """Per document."""
    labels_recommended: float | None


class ProjectItem(View):
    """A project in a listing."""

    id: str
    name: str | None
    owner: str
    created_at: datetime
    documents: int


class ProjectList(View):
    items: list[ProjectItem]


class ProjectView(ProjectItem):
    """A project and where it stands."""

    annotators: list[str]
    blind_share: float
    double_share: float
    relations: dict[str, str]
    inverses: dict[str, list[str]]
    observed: dict[str, list[str]]
    """Relations by type pair (`PER>LOC`), commonest first, as recommended, kept and added: what to type ahead first."""
    sources: dict[str, str | None]
    """The references it was made of."""
    complete: int
    """Documents that every assigned annotator has completed."""
    counters: Counters
    """Over all annotators' lists."""
    by_annotator: dict[str, Counters]
    agreement: AgreementView
    anchoring: AnchoringView


class Disputed(View):
    """A relation that some have and others have not."""

    h: int
    t: int
    r: str
    has: list[str]
    has_not: list[str]


class AdjudicationItem(View):
    """A document of several annotators."""

    id: int
    title: str
    version: int
    annotators: list[str]
    agreed: int
    disputed: list[Disputed]
    is_settled: bool
    """Whether the adjudication list is complete."""


class AdjudicationView(View):
    items: list[AdjudicationItem]
