"""The bench of the downstream study: nothing is claimed that the interval doesn't carry."""

import pytest

pytest.importorskip("torch")

from shared.jobs.catalog.insta import ArmScore, Contrast, DownstreamResult
from tests.bench.bench_insta_downstream import rows_of


@pytest.mark.parametrize(
    ("interval", "said"),
    [((0.01, 0.19), "excludes zero"), ((-0.05, 0.25), "nothing to claim"), ((None, None), "nothing to claim")],
)
def test_a_row_says_what_may_be_claimed(interval, said):
    arms = [ArmScore(method=name, accuracy=value, loss=2.0, same_category=0.5)
            for name, value in (("insta", 0.5), ("all", 0.4))]  # fmt: skip
    low, high = interval
    found = Contrast(against="all", difference=0.1, low=low, high=high, excludes_zero=said == "excludes zero",
                     loss_difference=0.0, loss_low=-0.1, loss_high=0.1)  # fmt: skip
    result = DownstreamResult(arms=arms, contrasts=[found], targets=["a", "b"], seeds=3, parameters=10, runs=9)
    accuracy, loss = rows_of(result)
    assert accuracy["ratio"] == 1.25
    assert accuracy["spread"].endswith(said)
    assert (loss["unit"], loss["ratio"]) == ("nats", 1.0)
    assert loss["spread"].endswith("nothing to claim")
