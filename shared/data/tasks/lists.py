"""Tasks on lists of numbers: putting in order, and picking out."""

import random

from shared.data.tasks import GeneratedTask
from shared.data.tasks.draws import joined, numbers


def _sorted(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), joined(sorted(items))


def _descending(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), joined(sorted(items, reverse=True))


def _reversed(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), joined(items[::-1])


def _rotated(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), joined([*items[1:], items[0]])


def _by_last_digit(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), joined(sorted(items, key=lambda n: (n % 10, n)))


def _largest(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), str(max(items))


def _smallest(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), str(min(items))


def _first(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), str(items[0])


def _last(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), str(items[-1])


def _evens(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), joined([n for n in items if n % 2 == 0]) or "none"


CATEGORIES: dict[str, list[GeneratedTask]] = {
    "List Ordering": [
        GeneratedTask(
            "sort_ascending",
            (
                "You are given a list of numbers. Write the same numbers sorted from the smallest to the largest.",
                "Sort this list of numbers in ascending order.",
                "Put the numbers of the list in increasing order and output the sorted list.",
            ),
            _sorted,
        ),
        GeneratedTask(
            "sort_descending",
            (
                "You are given a list of numbers. Write the same numbers sorted from the largest to the smallest.",
                "Sort this list of numbers in descending order.",
                "Put the numbers of the list in decreasing order and output the sorted list.",
            ),
            _descending,
        ),
        GeneratedTask(
            "reverse_list",
            (
                "You are given a list of numbers. Write the list backwards, the last number first.",
                "Reverse the order of the numbers in this list.",
                "Output the list of numbers in reverse order.",
            ),
            _reversed,
        ),
        GeneratedTask(
            "rotate_list",
            (
                "You are given a list of numbers. Move the first number to the end and keep the rest in order.",
                "Rotate this list of numbers one place to the left.",
                "Output the list with its first number moved behind the last one.",
            ),
            _rotated,
        ),
        GeneratedTask(
            "sort_by_last_digit",
            (
                "You are given a list of numbers. Order them by their last digit; equal last digits by size.",
                "Sort the numbers of this list by the digit they end in.",
                "Put the list of numbers in ascending order of the last digit.",
            ),
            _by_last_digit,
        ),
    ],
    "List Selection": [
        GeneratedTask(
            "largest_number",
            (
                "You are given a list of numbers. Write the largest number of the list.",
                "Find the maximum of this list of numbers.",
                "Which number in the list is the greatest? Output only that number.",
            ),
            _largest,
        ),
        GeneratedTask(
            "smallest_number",
            (
                "You are given a list of numbers. Write the smallest number of the list.",
                "Find the minimum of this list of numbers.",
                "Which number in the list is the least? Output only that number.",
            ),
            _smallest,
        ),
        GeneratedTask(
            "first_number",
            (
                "You are given a list of numbers. Write the number that stands first in the list.",
                "Find the first element of this list of numbers.",
                "Which number does the list begin with? Output only that number.",
            ),
            _first,
        ),
        GeneratedTask(
            "last_number",
            (
                "You are given a list of numbers. Write the number that stands last in the list.",
                "Find the last element of this list of numbers.",
                "Which number does the list end with? Output only that number.",
            ),
            _last,
        ),
        GeneratedTask(
            "even_numbers",
            (
                "You are given a list of numbers. Write only the even numbers, in the order of the list.",
                "Select the even numbers from this list; answer none if there are none.",
                "Remove every odd number from the list and output what remains.",
            ),
            _evens,
        ),
    ],
}
