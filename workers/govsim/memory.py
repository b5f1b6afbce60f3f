"""An agent's memory: a stream of nodes, and which of them come to mind (the official code's retrieval, read and run).

Symbols: i a candidate's place in the order of storing, e(·) the sentence encoder. A candidate scores
recency·decay^i + importance·(rating − 1)/9 + relevance·cos(e(query), e(node)). i counts from the oldest candidate, so
recency favours what is old: the official code's text says the opposite. `newest_first` counts the other way.
`Memory.retrieve` is the entry point.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np

from shared.jobs.catalog.govsim import SimulateParams
from workers.govsim.randomness import Floats

NodeType = Literal["event", "thought", "chat", "action"]
MOST_IMPORTANT = 10  # of always-included nodes; nobody is asked
QUERY_INSTRUCTION = "Represent this sentence for searching relevant passages: "
"""Goes before a focal point, and before no node, when it is encoded: the official encoder's documented prompt."""


@dataclass(frozen=True)
class Node:
    """One thing remembered."""

    id: int  # from 1, per agent, in the order of storing
    type: NodeType
    text: str
    created: datetime
    expiration: datetime
    importance: int  # 1..10 as rated; the official parser keeps what it read
    always_include: bool

    def is_visible(self, now: datetime) -> bool:
        """Not yet forgotten; when it was created isn't asked."""
        return self.expiration > now

    def to_line(self) -> dict[str, Any]:
        """As `memory.jsonl` holds it."""
        return {
            "id": self.id,
            "type": self.type,
            "text": self.text,
            "created": self.created.isoformat(),
            "expiration": self.expiration.isoformat(),
            "importance": self.importance,
            "always_include": self.always_include,
        }

    @classmethod
    def from_line(cls, line: dict[str, Any]) -> "Node":
        """Back from `memory.jsonl`; other keys of the line are ignored."""
        created, expiration = (datetime.fromisoformat(line[name]) for name in ("created", "expiration"))
        return cls(
            line["id"], line["type"], line["text"], created, expiration, line["importance"], line["always_include"]
        )


@dataclass(frozen=True)
class Retrieval:
    """How memories are scored."""

    recency: float  # weights
    importance: float
    relevance: float
    decay: float
    newest_first: bool

    def scores(self, nodes: Sequence[Node], embeddings: Floats, query: Floats) -> Floats:
        """(nodes,) for embeddings (nodes, d) and a query (d,), before always-included nodes are put first."""
        i = np.arange(len(nodes))
        recency = self.decay ** (i[::-1] if self.newest_first else i).astype(np.float64)
        importance = np.array([(node.importance - 1) / 9 for node in nodes])
        relevance = cosine(embeddings, query)
        return np.asarray(self.recency * recency + self.importance * importance + self.relevance * relevance)

    def best(self, nodes: Sequence[Node], embeddings: Floats, query: Floats, k: int) -> list[int]:
        """Places of the k best, best first. Always-included nodes score the maximum + 1; ties go to the older node."""
        scores = self.scores(nodes, embeddings, query)
        always = np.array([node.always_include for node in nodes])
        scores[always] = scores.max() + 1
        places: list[int] = np.argsort(-scores, kind="stable")[:k].tolist()
        return places


@dataclass
class Memory:
    """The nodes of one agent, in the order of storing."""

    nodes: list[Node] = field(default_factory=list)

    def store(self, type: NodeType, text: str, times: tuple[datetime, datetime], importance: int | None = None) -> Node:
        """Add a node; `times` are creation and expiration. Without a rating the node is always included."""
        always = importance is None
        rating = MOST_IMPORTANT if importance is None else importance
        node = Node(len(self.nodes) + 1, type, text, *times, rating, always)
        self.nodes.append(node)
        return node

    def candidates(self, now: datetime) -> list[Node]:
        """What can come to mind: not forgotten, and no chat."""
        return [node for node in self.nodes if node.type != "chat" and node.is_visible(now)]


def retrieve(candidates: Sequence[Node], embeddings: Floats, queries: Floats, k: int, how: Retrieval) -> list[Node]:
    """The union over queries (m, d) of the k best candidates each, by creation, then by id."""
    if not candidates:
        return []
    places = {place for query in queries for place in how.best(candidates, embeddings, query, k)}
    return sorted((candidates[place] for place in places), key=in_order)


def in_order(node: Node) -> tuple[datetime, int]:
    """How memories are told: by creation, then by id."""
    return node.created, node.id


def cosine(embeddings: Floats, query: Floats) -> Floats:
    """cos between each row and the query; 0 for a vector of zeros."""
    norms = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(query)
    dots = embeddings @ query
    return np.asarray(np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0))


def retrieval_of(params: SimulateParams) -> Retrieval:
    """A condition's scoring."""
    return Retrieval(
        params.recency_weight,
        params.importance_weight,
        params.relevance_weight,
        params.recency_decay,
        params.recency_order == "newest_first",
    )
