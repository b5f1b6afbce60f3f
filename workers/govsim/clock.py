"""The simulation's calendar: harvest, discussion and reflection on the official dates, one clock for everybody.

A month's harvest is on its 1st, the discussion on the day before its last day, the reflection on its last day, all at
one o'clock. Own results are learnt a minute before the discussion; what a month's events say is forgotten at its
reflection. 2024, where societies start, is a leap year.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

START_YEAR = 2024
ONE_O_CLOCK = 1


@dataclass(frozen=True)
class Month:
    """The times of one month of a society."""

    number: int  # from 1

    @property
    def harvest(self) -> datetime:
        """When everyone decides."""
        year, month = divmod(self.number - 1, 12)
        return datetime(START_YEAR + year, month + 1, 1, ONE_O_CLOCK)

    @property
    def result(self) -> datetime:
        """When everyone learns what it was granted."""
        return self.discussion - timedelta(minutes=1)

    @property
    def discussion(self) -> datetime:
        """When the group talks."""
        return self.home - timedelta(days=1)

    @property
    def home(self) -> datetime:
        """When everyone reflects, and the month's events are forgotten."""
        return Month(self.number + 1).harvest - timedelta(days=1)
