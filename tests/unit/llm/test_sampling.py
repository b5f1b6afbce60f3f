"""The next token: what is drawn follows the distribution, and no row looks at another."""

import pytest
import torch

from shared.llm.sampling import next_tokens

LOGITS = torch.tensor([0.5, 0.2, 0.2, 0.1]).log()


def drawn(temperature: float, top_p: float, count: int = 4000, logits: torch.Tensor = LOGITS) -> list[float]:
    """Share of each token over evenly spread random numbers: exact up to 1/count."""
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    column = torch.ones(count)
    tokens = next_tokens(logits.expand(count, -1), temperature * column, top_p * column, uniform)
    return (torch.bincount(tokens, minlength=len(logits)) / count).tolist()


@pytest.mark.parametrize(
    ("temperature", "top_p", "shares"),
    [
        pytest.param(0.0, 1.0, [1, 0, 0, 0], id="greedy"),
        pytest.param(1.0, 1.0, [0.5, 0.2, 0.2, 0.1], id="as it is"),
        # p² / Σp² = (.25, .04, .04, .01) / .34
        pytest.param(0.5, 1.0, [25 / 34, 4 / 34, 4 / 34, 1 / 34], id="cooler"),
        pytest.param(1.0, 0.5, [1, 0, 0, 0], id="nucleus of the likeliest alone"),
        # .5 + .2 = .7 reaches .6: the equal token that comes later stays out
        pytest.param(1.0, 0.6, [5 / 7, 2 / 7, 0, 0], id="nucleus of two"),
        pytest.param(1.0, 0.95, [0.5, 0.2, 0.2, 0.1], id="nucleus of all"),
    ],
)
def test_shares_are_the_distributions(temperature: float, top_p: float, shares: list[float]) -> None:
    assert drawn(temperature, top_p) == pytest.approx(shares, abs=2e-3)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf])
    uniform = torch.tensor([0.0, 0.5, 1 - 1e-16], dtype=torch.float64)
    tokens = next_tokens(logits.expand(3, -1), torch.ones(3), torch.tensor([1.0, 1.0, 0.9]), uniform)
    assert tokens.tolist() == [1, 1, 1]


def test_a_row_is_drawn_alike_in_any_company() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(60, 50, generator=generator)
    temperature = torch.tensor([0.0, 1.0, 0.7]).repeat(20)
    top_p = torch.tensor([1.0, 0.8]).repeat(30)
    uniform = torch.rand(60, generator=generator, dtype=torch.float64)
    together = next_tokens(logits, temperature, top_p, uniform).tolist()
    alone = [
        next_tokens(*(column[row : row + 1] for column in (logits, temperature, top_p, uniform))).item()
        for row in range(60)
    ]
    assert together == alone
