"""Philox against its authors' known answers, and the promises of `Draws`."""

import numpy as np
import pytest
from scipy import stats

from workers.govsim.randomness import Draws, Purpose, philox4x32

RUNS = np.arange(20_000)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        # kat_vectors of Random123 1.14, philox4x32 10 rounds
        pytest.param([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8], id="zeros"),
        pytest.param([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD], id="ones"),
        pytest.param(
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
            id="digits-of-pi",
        ),
    ],
)
def test_philox_gives_its_authors_known_answers(counter, key, expected):
    words = philox4x32(tuple(np.array([word], dtype=np.uint64) for word in counter), tuple(key))
    assert [int(word[0]) for word in words] == expected


def test_a_draw_depends_on_its_counter_alone():
    draws = Draws(42)
    whole = draws.uniform(Purpose.POLICY, np.arange(100)[:, None], 3, np.arange(7)[None, :])
    for run, agent in [(0, 0), (57, 2), (99, 6)]:
        assert draws.uniform(Purpose.POLICY, np.array([run]), 3, agent)[0] == whole[run, agent]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((Draws(43), Purpose.POLICY, 1, 2, 0), id="seed"),
        pytest.param((Draws(42), Purpose.LOTTERY, 1, 2, 0), id="purpose"),
        pytest.param((Draws(42), Purpose.POLICY, 2, 2, 0), id="month"),
        pytest.param((Draws(42), Purpose.POLICY, 1, 3, 0), id="agent"),
        pytest.param((Draws(42), Purpose.POLICY, 1, 2, 1), id="draw"),
    ],
)
def test_every_part_of_the_counter_changes_the_draws_independently(other):
    draws, purpose, month, agent, draw = other
    one = Draws(42).uniform(Purpose.POLICY, RUNS, 1, 2, 0)
    two = draws.uniform(purpose, RUNS, month, agent, draw)
    assert not (one == two).any()
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / np.sqrt(len(RUNS))


def test_draws_are_uniform_between_0_and_1():
    uniform = Draws(7).uniform(Purpose.LOTTERY, RUNS, 0, 0)
    assert uniform.min() > 0
    assert uniform.max() < 1
    assert stats.kstest(uniform, "uniform").pvalue > 0.001


def test_whole_numbers_are_equally_likely_and_hit_both_ends():
    draws = Draws(3)
    numbers = draws.integer(-2, 3, draws.uniform(Purpose.POLICY, RUNS, 0, 0))
    counts = np.unique(numbers, return_counts=True)
    assert counts[0].tolist() == [-2, -1, 0, 1, 2, 3]
    assert stats.chisquare(counts[1]).pvalue > 0.001
