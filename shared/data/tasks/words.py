"""Tasks on lists of words: rearranging them, and judging claims about them."""

import random

from shared.data.tasks import GeneratedTask
from shared.data.tasks.draws import joined, word, words, yes


def _alphabetical(rng: random.Random) -> tuple[str, str]:
    items = words(rng)
    return joined(items), joined(sorted(items))


def _by_length(rng: random.Random) -> tuple[str, str]:
    items = words(rng)
    return joined(items), joined(sorted(items, key=len))


def _reversed(rng: random.Random) -> tuple[str, str]:
    items = words(rng)
    return joined(items), joined(items[::-1])


def _swapped(rng: random.Random) -> tuple[str, str]:
    items = words(rng)
    return joined(items), joined([items[-1], *items[1:-1], items[0]])


def _without_first(rng: random.Random) -> tuple[str, str]:
    items = words(rng)
    return joined(items), joined(items[1:])


def _contains(rng: random.Random) -> tuple[str, str]:
    items = words(rng)
    asked = rng.choice(items) if rng.random() < 0.5 else word(rng)
    return f"{joined(items)} | {asked}", yes(asked in items)


def _in_order(rng: random.Random) -> tuple[str, str]:
    items = words(rng, 2, 4)
    items = sorted(items) if rng.random() < 0.5 else items
    return joined(items), yes(items == sorted(items))


def _same_letter(rng: random.Random) -> tuple[str, str]:
    first, second = word(rng), word(rng)
    if rng.random() < 0.4:
        second = first[0] + second[1:]
    return f"{first} {second}", yes(first[0] == second[0])


def _longer(rng: random.Random) -> tuple[str, str]:
    first, second = words(rng, 2, 2)
    return f"{first} {second}", yes(len(first) > len(second))


def _repeated(rng: random.Random) -> tuple[str, str]:
    items = words(rng, 3, 4)
    if rng.random() < 0.5:
        items[rng.randrange(1, len(items))] = items[0]
    return joined(items), yes(len(set(items)) < len(items))


CATEGORIES: dict[str, list[GeneratedTask]] = {
    "Word Arrangement": [
        GeneratedTask(
            "sort_words",
            (
                "You are given several words. Arrange the words in alphabetical order.",
                "Sort these words alphabetically.",
                "Rewrite the words so that they stand in the order of a dictionary.",
            ),
            _alphabetical,
        ),
        GeneratedTask(
            "words_by_length",
            (
                "You are given several words. Arrange the words from the shortest to the longest.",
                "Sort these words by their length; words of the same length keep their order.",
                "Rewrite the words so that shorter words come before longer ones.",
            ),
            _by_length,
        ),
        GeneratedTask(
            "reverse_words",
            (
                "You are given several words. Arrange the words in reverse order, without changing any word.",
                "Reverse the order of these words.",
                "Rewrite the words from the last word to the first.",
            ),
            _reversed,
        ),
        GeneratedTask(
            "swap_ends",
            (
                "You are given several words. Arrange them anew by exchanging the first and the last word.",
                "Swap the first of these words with the last one.",
                "Rewrite the words with the first and the last word in each other's place.",
            ),
            _swapped,
        ),
        GeneratedTask(
            "drop_first_word",
            (
                "You are given several words. Write all the words except the first one.",
                "Remove the first of these words.",
                "Rewrite the words without the word at the beginning.",
            ),
            _without_first,
        ),
    ],
    "Word Judgement": [
        GeneratedTask(
            "contains_word",
            (
                "You are given words and, after a bar, one more word. Decide whether it is among them: yes or no.",
                "Does the word after the bar occur among the words before it? Answer yes or no.",
                "Answer yes if the last word is one of the words before the bar, otherwise answer no.",
            ),
            _contains,
        ),
        GeneratedTask(
            "alphabetical_or_not",
            (
                "You are given several words. Decide whether they stand in alphabetical order: yes or no.",
                "Are these words sorted alphabetically? Answer yes or no.",
                "Answer yes if the words follow the order of a dictionary, otherwise answer no.",
            ),
            _in_order,
        ),
        GeneratedTask(
            "same_first_letter",
            (
                "You are given two words. Decide whether they begin with the same letter: yes or no.",
                "Do both words start with the same letter? Answer yes or no.",
                "Answer yes if the first letters of the two words are equal, otherwise answer no.",
            ),
            _same_letter,
        ),
        GeneratedTask(
            "first_is_longer",
            (
                "You are given two words. Decide whether the first has more letters than the second: yes or no.",
                "Is the first word longer than the second word? Answer yes or no.",
                "Answer yes if the first of the two words is the longer one, otherwise answer no.",
            ),
            _longer,
        ),
        GeneratedTask(
            "repeated_word",
            (
                "You are given several words. Decide whether any word occurs twice: yes or no.",
                "Is there a word that is repeated among these words? Answer yes or no.",
                "Answer yes if two of the words are the same, otherwise answer no.",
            ),
            _repeated,
        ),
    ],
}
