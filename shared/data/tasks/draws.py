"""What the generated tasks are made of: numbers, words and lists of them."""

import random

VOCABULARY = [
    "apple", "basket", "candle", "desert", "engine", "forest", "garden", "harbor", "island", "jacket", "kettle",
    "ladder", "market", "needle", "orange", "pencil", "quarry", "river", "silver", "tunnel", "umbrella", "valley",
    "window", "yellow", "zebra", "anchor", "bridge", "copper", "dragon", "eagle", "feather", "glacier", "hammer",
    "insect", "jungle", "kitten", "lemon", "meadow", "nectar", "ocean", "parrot", "rabbit", "saddle", "temple",
    "violin", "walnut", "arrow", "beach", "cloud", "dance", "earth", "field", "grape", "honey", "ink", "jewel",
    "kite", "leaf", "moon", "night", "oak", "pearl", "quilt", "rain", "stone", "tree", "wolf",
]  # fmt: skip


def word(rng: random.Random) -> str:
    return rng.choice(VOCABULARY)


def words(rng: random.Random, low: int = 3, high: int = 5) -> list[str]:
    """Different words, low to high of them."""
    return rng.sample(VOCABULARY, rng.randint(low, high))


def numbers(rng: random.Random, low: int = 3, high: int = 6, largest: int = 99) -> list[int]:
    """Different numbers from 0, low to high of them."""
    return rng.sample(range(largest + 1), rng.randint(low, high))


def joined(items: list[int] | list[str]) -> str:
    return " ".join(str(item) for item in items)


def yes(claim: bool) -> str:
    return "yes" if claim else "no"
