"""`builtin:docre-train` and `builtin:docre-native`: small sets of documents with relations, in our own words.

Invented people, places, firms and books of a few short templates each; every relation that a document states is
labelled, with its evidence. The native set tells of the same kinds of facts in other sentences and other order.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

VERSION = 1  # goes up when the bytes change
SIZES = {"train": 64, "native": 24}

FIRST = [
    "Anna",
    "Boris",
    "Clara",
    "David",
    "Elena",
    "Felix",
    "Greta",
    "Hugo",
    "Irene",
    "Jonas",
    "Karin",
    "Leon",
    "Marta",
    "Nils",
    "Olga",
    "Peter",
    "Rosa",
    "Simon",
]
LAST = [
    "Adler",
    "Brook",
    "Castle",
    "Dorn",
    "Ekman",
    "Fisher",
    "Grant",
    "Holm",
    "Iversen",
    "Keller",
    "Lund",
    "Meyer",
    "Norris",
    "Olsen",
    "Park",
    "Quist",
]
CITIES = [
    "Altona",
    "Brixen",
    "Corvallis",
    "Dunmore",
    "Elster",
    "Fairhaven",
    "Gent",
    "Harwich",
    "Imola",
    "Jelling",
    "Kolding",
    "Luton",
]
COUNTRIES = ["Austria", "Belgium", "Canada", "Denmark", "Finland", "Germany", "Ireland", "Norway", "Portugal", "Sweden"]
FIRMS = [
    "Nordwind",
    "Altek",
    "Brightline",
    "Castor",
    "Delphin",
    "Everlight",
    "Fieldmark",
    "Granit",
    "Helios",
    "Ironbridge",
]
BOOKS = [
    "Harvest",
    "Lanterns",
    "Meridian",
    "Nightfall",
    "Orchard",
    "Passage",
    "Riverside",
    "Silence",
    "Tides",
    "Winter",
]


class Fact(NamedTuple):
    """A relation between two slots that a sentence states."""

    head: str
    relation: str
    tail: str


class Template(NamedTuple):
    """One sentence: words and {slots}, and what it states."""

    words: str
    facts: tuple[Fact, ...]


def _t(words: str, *facts: tuple[str, str, str]) -> Template:
    return Template(words, tuple(Fact(*fact) for fact in facts))


TYPES = {
    "person": "PER",
    "spouse": "PER",
    "city": "LOC",
    "country": "LOC",
    "firm": "ORG",
    "book": "MISC",
    "year": "TIME",
}
TRAIN = (
    _t("{person} was born in {city} , a town in {country} , in {year} .",
       ("person", "P19", "city"), ("city", "P17", "country"), ("person", "P569", "year")),
    _t("{person} founded the company {firm} in {city} .", ("firm", "P112", "person"), ("firm", "P131", "city")),
    _t("In {year} {person} wrote the novel {book} .", ("book", "P50", "person"), ("book", "P577", "year")),
    _t("{person} is married to {spouse} .", ("person", "P26", "spouse"), ("spouse", "P26", "person")),
    _t("{spouse} works for {firm} .", ("spouse", "P108", "firm")),
    _t("The town is quiet and has a large market .",),
    _t("Many readers liked {book} very much .",),
)  # fmt: skip
NATIVE = (
    _t("The town {city} of {country} is where {person} was born in {year} .",
       ("person", "P19", "city"), ("city", "P17", "country"), ("person", "P569", "year")),
    _t("The firm {firm} of {city} was started by {person} .", ("firm", "P112", "person"), ("firm", "P131", "city")),
    _t("The novel {book} is a work of {person} and came out in {year} .",
       ("book", "P50", "person"), ("book", "P577", "year")),
    _t("{spouse} is the partner of {person} in life and work .",
       ("person", "P26", "spouse"), ("spouse", "P26", "person")),
    _t("Today {firm} pays the salary of {spouse} .", ("spouse", "P108", "firm")),
    _t("A long street leads to the old harbour .",),
    _t("{book} has been read by old and young .",),
)  # fmt: skip


def documents(which: str) -> list[dict[str, Any]]:
    """The documents of a set, in DocRED's form; the same version gives the same ones everywhere."""
    rng = random.Random(f"docre {which} {VERSION}")
    templates = TRAIN if which == "train" else NATIVE
    return [_document(f"{which} {number}", templates, rng) for number in range(SIZES[which])]


def write_documents(which: str, path: Path) -> None:
    lines = (json.dumps(document, ensure_ascii=False) for document in documents(which))
    path.write_text("[" + ",\n".join(lines) + "]\n", encoding="utf-8")


def write_train(path: Path) -> None:
    write_documents("train", path)


def write_native(path: Path) -> None:
    write_documents("native", path)


def _document(title: str, templates: Sequence[Template], rng: random.Random) -> dict[str, Any]:
    """Four or five sentences about one person; a slot is one entity throughout, but each year is another."""
    names = _names(rng)
    sentences: list[list[str]] = []
    entities: dict[str, list[dict[str, Any]]] = {}
    facts: dict[tuple[str, str, str], list[int]] = {}
    for number, template in enumerate(rng.sample(templates, rng.randint(4, 5))):
        words: list[str] = []
        keys: dict[str, str] = {}
        for word in template.words.split():
            slot = word.strip("{}")
            if slot == word:
                words.append(word)
                continue
            key = f"{slot} {number}" if slot == "year" else slot
            name = names[key]
            mention = {"name": " ".join(name), "sent_id": number, "pos": [len(words), len(words) + len(name)],
                       "type": TYPES[slot]}  # fmt: skip
            entities.setdefault(key, []).append(mention)
            keys[slot] = key
            words += name
        sentences.append(words)
        for head, relation, tail in template.facts:
            facts.setdefault((keys[head], relation, keys[tail]), []).append(number)
    index = {key: n for n, key in enumerate(entities)}
    labels = [{"h": index[h], "t": index[t], "r": r, "evidence": e} for (h, r, t), e in facts.items()]
    return {"title": title, "sents": sentences, "vertexSet": list(entities.values()), "labels": labels}


def _names(rng: random.Random) -> dict[str, list[str]]:
    people = [[first, last] for first, last in zip(rng.sample(FIRST, 2), rng.sample(LAST, 2), strict=True)]
    names = {"person": people[0], "spouse": people[1], "city": [rng.choice(CITIES)], "country": [rng.choice(COUNTRIES)],
             "firm": [rng.choice(FIRMS)], "book": [rng.choice(BOOKS)]}  # fmt: skip
    years = rng.sample(range(1880, 2020), 5)
    return names | {f"year {n}": [str(year)] for n, year in enumerate(years)}
