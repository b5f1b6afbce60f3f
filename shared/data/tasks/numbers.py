"""Tasks of arithmetic: on two numbers, and on lists of them."""

import random

from shared.data.tasks import GeneratedTask
from shared.data.tasks.draws import joined, numbers


def _added(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    return f"{a} {b}", str(a + b)


def _subtracted(rng: random.Random) -> tuple[str, str]:
    a, b = sorted((rng.randint(0, 99), rng.randint(0, 99)), reverse=True)
    return f"{a} {b}", str(a - b)


def _doubled(rng: random.Random) -> tuple[str, str]:
    n = rng.randint(0, 999)
    return str(n), str(2 * n)


def _successor(rng: random.Random) -> tuple[str, str]:
    n = rng.randint(0, 9_998)
    return str(n), str(n + 1)


def _digit_sum(rng: random.Random) -> tuple[str, str]:
    n = rng.randint(0, 9_999)
    return str(n), str(sum(int(digit) for digit in str(n)))


def _sum(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng, 3, 4, 20)
    return joined(items), str(sum(items))


def _spread(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng, 3, 4, 50)
    return joined(items), str(max(items) - min(items))


def _length(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng, 1, 9)
    return joined(items), str(len(items))


def _each_plus_one(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng)
    return joined(items), joined([n + 1 for n in items])


def _count_odd(rng: random.Random) -> tuple[str, str]:
    items = numbers(rng, 2, 7)
    return joined(items), str(sum(n % 2 for n in items))


CATEGORIES: dict[str, list[GeneratedTask]] = {
    "Arithmetic": [
        GeneratedTask(
            "add",
            (
                "You are given two numbers. Write their sum.",
                "Add the two numbers.",
                "Calculate the first number plus the second number.",
            ),
            _added,
        ),
        GeneratedTask(
            "subtract",
            (
                "You are given two numbers. Write the first minus the second.",
                "Subtract the second number from the first.",
                "Calculate the difference of the two numbers.",
            ),
            _subtracted,
        ),
        GeneratedTask(
            "double",
            (
                "You are given a number. Write twice that number.",
                "Multiply the number by two.",
                "Calculate the double of the number.",
            ),
            _doubled,
        ),
        GeneratedTask(
            "successor",
            (
                "You are given a number. Write the whole number that follows it.",
                "Add one to the number.",
                "Calculate the number that comes right after this number.",
            ),
            _successor,
        ),
        GeneratedTask(
            "digit_sum",
            (
                "You are given a number. Write the sum of its digits.",
                "Add up the digits of the number.",
                "Calculate the digit sum of the number.",
            ),
            _digit_sum,
        ),
    ],
    "List Arithmetic": [
        GeneratedTask(
            "list_sum",
            (
                "You are given a list of numbers. Calculate the sum of all numbers in the list.",
                "Add all the numbers of this list together.",
                "What is the total of the list of numbers?",
            ),
            _sum,
        ),
        GeneratedTask(
            "list_spread",
            (
                "You are given a list of numbers. Calculate the largest number minus the smallest number.",
                "Subtract the minimum of the list of numbers from its maximum.",
                "What is the range of the numbers in this list?",
            ),
            _spread,
        ),
        GeneratedTask(
            "list_length",
            (
                "You are given a list of numbers. Calculate how many numbers the list has.",
                "Count the elements of this list of numbers.",
                "What is the length of the list?",
            ),
            _length,
        ),
        GeneratedTask(
            "add_one_to_each",
            (
                "You are given a list of numbers. Calculate a new list in which each number is one larger.",
                "Add one to every number of this list.",
                "What list do you get when each number of the list grows by one?",
            ),
            _each_plus_one,
        ),
        GeneratedTask(
            "count_odd",
            (
                "You are given a list of numbers. Calculate how many numbers of the list are odd.",
                "Count the odd numbers in this list.",
                "What is the number of odd elements in the list of numbers?",
            ),
            _count_odd,
        ),
    ],
}
