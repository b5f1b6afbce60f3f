"""Tasks on the letters of one word: rewriting it, and counting."""

import random

from shared.data.tasks import GeneratedTask
from shared.data.tasks.draws import word

VOWELS = "aeiou"


def _invented(rng: random.Random) -> str:
    """A word, or two run together: more inputs than the vocabulary has words."""
    return word(rng) if rng.random() < 0.1 else word(rng) + word(rng)[:4]


def _backwards(rng: random.Random) -> tuple[str, str]:
    text = _invented(rng)
    return text, text[::-1]


def _capitals(rng: random.Random) -> tuple[str, str]:
    text = _invented(rng)
    return text, text.upper()


def _without_vowels(rng: random.Random) -> tuple[str, str]:
    text = _invented(rng)
    return text, "".join(c for c in text if c not in VOWELS)


def _without_first(rng: random.Random) -> tuple[str, str]:
    text = _invented(rng)
    return text, text[1:]


def _dashed(rng: random.Random) -> tuple[str, str]:
    text = _invented(rng)
    return text, "-".join(text)


def _vowels(rng: random.Random) -> tuple[str, str]:
    text = _invented(rng)
    return text, str(sum(c in VOWELS for c in text))


def _consonants(rng: random.Random) -> tuple[str, str]:
    text = _invented(rng)
    return text, str(sum(c not in VOWELS for c in text))


def _length(rng: random.Random) -> tuple[str, str]:
    text = _invented(rng)
    return text, str(len(text))


def _occurrences(rng: random.Random) -> tuple[str, str]:
    text = _invented(rng)
    letter = rng.choice(text) if rng.random() < 0.8 else rng.choice("aeinrst")
    return f"{text} | {letter}", str(text.count(letter))


def _distinct(rng: random.Random) -> tuple[str, str]:
    text = _invented(rng)
    return text, str(len(set(text)))


CATEGORIES: dict[str, list[GeneratedTask]] = {
    "Letter Rewriting": [
        GeneratedTask(
            "spell_backwards",
            (
                "You are given a word. Rewrite its letters from the last to the first.",
                "Spell the word backwards.",
                "Reverse the letters of the word.",
            ),
            _backwards,
        ),
        GeneratedTask(
            "capital_letters",
            (
                "You are given a word. Rewrite it with every letter as a capital letter.",
                "Write the word in upper case.",
                "Change all letters of the word to capitals.",
            ),
            _capitals,
        ),
        GeneratedTask(
            "remove_vowels",
            (
                "You are given a word. Rewrite it without the letters a, e, i, o and u.",
                "Delete all vowels from the word.",
                "Remove the vowels of the word and keep the other letters.",
            ),
            _without_vowels,
        ),
        GeneratedTask(
            "remove_first_letter",
            (
                "You are given a word. Rewrite it without its first letter.",
                "Delete the first letter of the word.",
                "Remove the letter at the beginning of the word and keep the other letters.",
            ),
            _without_first,
        ),
        GeneratedTask(
            "dash_between_letters",
            (
                "You are given a word. Rewrite it with a dash between any two neighbouring letters.",
                "Spell the word with dashes between its letters.",
                "Insert a dash between the letters of the word.",
            ),
            _dashed,
        ),
    ],
    "Letter Counting": [
        GeneratedTask(
            "count_vowels",
            (
                "You are given a word. Count how many of its letters are vowels.",
                "How many vowels does the word have?",
                "Write the number of vowels in the word.",
            ),
            _vowels,
        ),
        GeneratedTask(
            "count_consonants",
            (
                "You are given a word. Count how many of its letters are consonants.",
                "How many consonants does the word have?",
                "Write the number of consonants in the word.",
            ),
            _consonants,
        ),
        GeneratedTask(
            "count_letters",
            (
                "You are given a word. Count how many letters it has.",
                "How many letters does the word have?",
                "Write the number of letters in the word.",
            ),
            _length,
        ),
        GeneratedTask(
            "count_one_letter",
            (
                "You are given a word and, after a bar, a letter. Count how often the letter occurs in the word.",
                "How many times does the letter after the bar appear in the word?",
                "Write the number of occurrences of the given letter in the word.",
            ),
            _occurrences,
        ),
        GeneratedTask(
            "count_distinct_letters",
            (
                "You are given a word. Count how many different letters it is made of.",
                "How many distinct letters does the word have?",
                "Write the number of different letters in the word.",
            ),
            _distinct,
        ),
    ],
}
