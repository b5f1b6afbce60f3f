"""What a list may lack: inverses, and relations that follow through a third entity. Offered, never forced."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.relations.documents import Triple

# fmt: off
_PAIRS = (("P361", "P527"), ("P710", "P1344"), ("P155", "P156"), ("P127", "P1830"), ("P137", "P121"), ("P1441", "P674"),
          ("P800", "P50"), ("P36", "P1376"), ("P749", "P355"), ("P1365", "P1366"), ("P26", "P26"), ("P3373", "P3373"))
# fmt: on
INVERSES: Mapping[str, Sequence[str]] = {
    **{a: [b] for a, b in _PAIRS},
    **{b: [a] for a, b in _PAIRS if a != "P800"},  # most authors have no notable work of it
}
TRANSITIVE = frozenset({"P131", "P361", "P279"})
MOST = 50


class Hint(NamedTuple):
    """A relation that may hold, and why."""

    triple: Triple
    because: str


def hints(final: set[Triple], known: set[Triple], inverses: Mapping[str, Sequence[str]] = INVERSES) -> list[Hint]:
    """For triples of the final list; what the annotator has already decided on is not offered again.

    A project's own inverse rules take the place of ours; empty ones mean ours.
    """
    inverses = inverses or INVERSES
    found: dict[Triple, str] = {}
    for head, tail, relation in sorted(final):
        for inverse in inverses.get(relation, ()):
            found.setdefault(Triple(tail, head, inverse), f"inverse of {relation}")
    for head, middle, relation in sorted(final):
        if relation in TRANSITIVE:
            for other, tail, second in sorted(final):
                if other == middle and second == relation and head != tail:
                    found.setdefault(Triple(head, tail, relation), f"{relation} through entity {middle}")
    return [Hint(triple, why) for triple, why in found.items() if triple not in known][:MOST]


def without_relation(final: Sequence[Triple] | set[Triple], entities: int) -> list[int]:
    """Entities that stand in no relation yet."""
    used = {entity for head, tail, _ in final for entity in (head, tail)}
    return [entity for entity in range(entities) if entity not in used]
