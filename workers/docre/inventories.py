"""The published relation inventories of DocRED and JacRED, and entity types that both datasets understand.

JacRED has 35 relations: 33 of DocRED's 96 and the inverses of P127 and P137. What is compared across languages is
compared over the 33.
"""

from collections.abc import Sequence
from dataclasses import replace

from shared.relations.documents import Document

_DOCRED = """
P17 P131 P27 P150 P577 P175 P569 P570 P161 P264 P527 P361 P495 P19 P571 P54 P102 P463 P3373 P40 P30 P50 P1441 P1001
P69 P26 P607 P57 P159 P22 P400 P1344 P206 P127 P170 P178 P20 P1412 P155 P118 P710 P6 P108 P276 P156 P674 P166 P194
P123 P140 P800 P449 P58 P35 P179 P706 P162 P37 P241 P31 P403 P580 P137 P585 P112 P86 P176 P749 P937 P36 P576 P355
P136 P364 P272 P172 P205 P279 P1376 P171 P25 P488 P582 P740 P840 P1366 P676 P1336 P1056 P551 P39 P1365 P737 P190
P807 P1198
"""
_JACRED = """
P1376 P131 P276 P937 P27 P569 P570 P19 P20 P155 P40 P3373 P26 P1344 P463 P361 P6 P127 P112 P108 P137 P69 P166 P170
P175 P123 P1441 P400 P36 P156 P710 P527 P1830 P121 P674
"""
DOCRED, JACRED = tuple(_DOCRED.split()), tuple(_JACRED.split())
SHARED = frozenset(DOCRED) & frozenset(JACRED)
KNOWN = frozenset(DOCRED) | frozenset(JACRED)
JACRED_TYPES = {"TIME": "DAT", "NUM": "%", "MISC": "ART"}
"""DocRED's types in JacRED's words; PER, ORG and LOC are the same."""


def with_jacred_types(documents: Sequence[Document]) -> list[Document]:
    """The documents with every mention's type in JacRED's words; JacRED's own stay as they are."""
    return [
        replace(
            document,
            entities=tuple(
                tuple(replace(mention, type=JACRED_TYPES.get(mention.type, mention.type)) for mention in entity)
                for entity in document.entities
            ),
        )
        for document in documents
    ]
