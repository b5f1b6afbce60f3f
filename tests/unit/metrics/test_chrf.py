"""chrF against figures worked by hand."""

import pytest

from shared.metrics.chrf import chrf


@pytest.mark.parametrize(
    ("pairs", "score"),
    [
        pytest.param([("casa roja", "casa roja")], 1.0, id="equal"),
        pytest.param([("casa roja", "casaroja")], 1.0, id="white_space_does_not_count"),
        pytest.param([("abc", "xyz")], 0.0, id="nothing_in_common"),
        # n=1: 1/2 of ours, 1/1 of theirs; n=2: theirs has none. P = 1/2, R = 1: 5·½·1 / (4·½ + 1) = 2.5/3
        pytest.param([("ab", "a")], 2.5 / 3, id="too_much"),
        # The other way round: P = 1, R = 1/2: 5·½ / (4 + ½) = 2.5/4.5: what is missing weighs more
        pytest.param([("a", "ab")], 2.5 / 4.5, id="too_little"),
        # Summed over two pairs: n=1: 3 of 3, n=2: 1 of 1 of ours; 3 of 4 and 1 of 2 of theirs. P = 1, R = 0.625
        pytest.param([("ab", "ab"), ("a", "ab")], 5 * 0.625 / 4.625, id="a_corpus"),
        pytest.param([("", "")], 1.0, id="empty"),
        pytest.param([("", "a")], 0.0, id="nothing_said"),
    ],
)
def test_chrf_weighs_recall_twice(pairs, score):
    assert chrf(pairs) == pytest.approx(score)
