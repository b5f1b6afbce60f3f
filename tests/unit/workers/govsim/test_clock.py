"""The official calendar."""

from datetime import datetime

import pytest

from workers.govsim.clock import Month


@pytest.mark.parametrize(
    ("number", "harvest", "discussion", "home"),
    [
        pytest.param(1, (2024, 1, 1), (2024, 1, 30), (2024, 1, 31), id="january"),
        pytest.param(2, (2024, 2, 1), (2024, 2, 28), (2024, 2, 29), id="a-leap-february"),
        pytest.param(12, (2024, 12, 1), (2024, 12, 30), (2024, 12, 31), id="december"),
        pytest.param(14, (2025, 2, 1), (2025, 2, 27), (2025, 2, 28), id="next-year"),
    ],
)
def test_a_month_has_its_official_dates(number, harvest, discussion, home):
    month = Month(number)
    times = (month.harvest, month.discussion, month.home)
    assert times == tuple(datetime(*date, 1) for date in (harvest, discussion, home))


def test_own_results_are_learnt_a_minute_before_the_discussion():
    assert Month(1).result == datetime(2024, 1, 30, 0, 59)
