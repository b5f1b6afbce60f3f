"""The words of the three scenarios: one resource told as fish, grass or clean water. The mathematics is the same.

Everything agents read is written here and in `prompts`, in our own words; what each text must say is the paper's.
"""

from dataclasses import dataclass

from shared.jobs.catalog.govsim import Scenario


@dataclass(frozen=True)
class Scene:
    """How one scenario names things. Texts in braces are filled in by the methods."""

    place: str  # where one harvests; the focal point of harvest memories
    meeting: str  # where one talks
    role: str  # what one agent is
    roles: str
    unit: str  # after a number of any size, e.g. "tons of fish"
    unit_one: str  # after 1
    unit_words: tuple[str, ...]  # what replies call a unit, for the strict parser
    act: str  # to take, of oneself: "catch"
    took: str  # its past: "caught"
    stock_text: str
    stock_left_text: str  # where others have taken their share already
    universalization_text: str
    wanted_is_told: bool  # whether the own result says what one wanted, too

    def amount(self, units: int) -> str:
        """A number with its unit."""
        return f"{units} {self.unit_one if units == 1 else self.unit}"

    def stock(self, units: int) -> str:
        """The month-start event."""
        return self.stock_text.format(units=units)

    def stock_left(self, units: int) -> str:
        """The same for who comes after others in the month."""
        return self.stock_left_text.format(units=units)

    def universalization(self, threshold: int) -> str:
        """What follows if everyone takes more than thr; universalization only."""
        return self.universalization_text.format(threshold=threshold)

    def own_result(self, name: str, wanted: int, got: int) -> str:
        """What an agent learns of its own harvest."""
        if self.wanted_is_told:
            return f"{name} wanted to {self.act} {self.amount(wanted)} and {self.took} {self.amount(got)}."
        return f"{name} {self.took} {self.amount(got)}."

    def result(self, name: str, got: int) -> str:
        """What the moderator says of an agent."""
        return f"{name} {self.took} {self.amount(got)}."

    def results(self, names: list[str], got: list[int]) -> str:
        """Every agent's grant, one sentence each."""
        return " ".join(self.result(name, units) for name, units in zip(names, got, strict=True))

    def agreed_limit(self, limit: int) -> str:
        """The thought that remembers an agreement."""
        return f"The group agreed on a limit: nobody takes more than {self.amount(limit)} a month."


SCENES: dict[Scenario, Scene] = {
    "fishery": Scene(
        place="lake",
        meeting="village inn",
        role="fisherman",
        roles="fishermen",
        unit="tons of fish",
        unit_one="ton of fish",
        unit_words=("tons", "ton"),
        act="catch",
        took="caught",
        stock_text="Before anyone fishes this month, there are {units} tons of fish in the lake.",
        stock_left_text="After those who fished before you this month, {units} tons of fish are left in the lake.",
        universalization_text=(
            "As things stand, if everyone catches more than {threshold} tons this month, there will be less fish in "
            "the lake next month."
        ),
        wanted_is_told=True,
    ),
    "pasture": Scene(
        place="pasture",
        meeting="village inn",
        role="shepherd",
        roles="shepherds",
        unit="flocks of sheep",
        unit_one="flock of sheep",
        unit_words=("flocks", "flock", "hectares", "hectare"),
        act="graze",
        took="grazed",
        stock_text="Before anyone's flocks graze this month, there are {units} hectares of grass on the pasture.",
        stock_left_text=(
            "After the flocks that grazed before yours this month, {units} hectares of grass are left on the pasture."
        ),
        universalization_text=(
            "As things stand, if everyone lets more than {threshold} flocks graze this month, there will be fewer "
            "hectares of grass next month."
        ),
        wanted_is_told=False,
    ),
    "pollution": Scene(
        place="factory",
        meeting="town hall",
        role="factory owner",
        roles="factory owners",
        unit="pallets of widgets",
        unit_one="pallet of widgets",
        unit_words=("pallets", "pallet", "widgets"),
        act="produce",
        took="produced",
        stock_text="Before anyone produces this month, {units} % of the river's water is unpolluted.",
        stock_left_text=(
            "After those who produced before you this month, {units} % of the river's water is still unpolluted."
        ),
        universalization_text=(
            "As things stand, if everyone produces more than {threshold} pallets of widgets this month, a smaller % of "
            "the river's water will be unpolluted next month."
        ),
        wanted_is_told=False,
    ),
}
