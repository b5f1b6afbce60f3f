"""The figures are Plotly's, and show what the paper's show."""

import numpy as np
import plotly.io
import pytest

from shared.jobs.catalog.govsim import SimulateParams
from workers.govsim.figures import MAX_PANELS, Condition, figures
from workers.govsim.hosts import local_hosts
from workers.govsim.society import conditions_of, simulate_runs
from workers.govsim.tally import Tally

NAMES = {"stock", "survival", "collapsed", "survival_time", "harvest", "gini", "over_usage"}


def condition(name="a", **params):
    params = SimulateParams(**{"runs": 8, **params})
    tally = Tally(conditions_of(params))
    tally.add(simulate_runs(params, np.arange(params.runs), local_hosts(params)))
    return Condition(name, tally, params.communication, params.capacity)


@pytest.fixture(scope="module")
def drawn():
    """Two conditions side by side: one that lasts, one that doesn't."""
    lottery = condition("twelve", policies={"type": "fixed", "quantity": 12}, communication=False)
    drawn = figures([condition("sustained"), lottery])
    return {name.removesuffix(".plotly.json"): figure for name, figure in drawn.items()}


def line(figure, name, nth=0):
    return [trace for trace in figure["data"] if trace.get("name") == name][nth]


@pytest.mark.parametrize(
    "society",
    [
        pytest.param({}, id="five"),
        pytest.param({"agents": 100, "capacity": 2_000, "months": 30}, id="hundred"),
        pytest.param({"agents": 1, "runs": 1, "months": 1}, id="one-of-everything"),
        pytest.param({"policies": {"type": "fixed", "quantity": 0}}, id="nothing-taken"),
        pytest.param({"experiment": "newcomer", "policies": {"type": "greedy"}}, id="nobody-met-the-newcomer"),
    ],
)
def test_plotly_accepts_every_figure(society):
    drawn = figures([condition(**society)])
    assert {name.removesuffix(".plotly.json") for name in drawn} == NAMES
    for figure in drawn.values():
        plotly.io.from_json(plotly.io.json.to_json_plotly(figure))


def test_the_stock_has_two_points_a_month_and_a_band(drawn):
    curve = line(drawn["stock"], "twelve")
    assert curve["x"][:4] == [1, 1.98, 2, 2.98]
    assert curve["y"][:8] == [100, 40, 80, 20, 40, 0, 0, 0]  # what ended counts as an empty stock
    assert drawn["stock"]["layout"]["yaxis"]["range"][0] == 0
    assert [trace.get("fill") for trace in drawn["stock"]["data"]] == [None, "tonexty", None] * 2


def test_the_survival_curve_falls_in_the_month_of_collapse(drawn):
    assert line(drawn["survival"], "twelve")["y"][:5] == [1, 1, 1, 0, 0]
    assert line(drawn["survival"], "sustained")["y"] == [1] * 13
    assert line(drawn["survival"], "twelve")["line"]["shape"] == "hv"


def test_the_share_collapsed_rises_in_the_month_of_collapse(drawn):
    assert line(drawn["collapsed"], "twelve")["y"][:4] == [0, 0, 1, 1]


def test_mean_survival_has_a_bar_and_an_interval_per_condition(drawn):
    (bars,) = drawn["survival_time"]["data"]
    assert (bars["x"], bars["y"], bars["error_y"]["array"]) == (["sustained", "twelve"], [12, 3], [0, 0])


def test_each_agent_has_a_panel_and_the_limit_one_more(drawn):
    harvest = drawn["harvest"]
    titles = [annotation["text"] for annotation in harvest["layout"]["annotations"]]
    assert titles == ["John", "Kate", "Jack", "Emma", "Luke", "agreed limit"]
    assert line(harvest, "sustained", 2)["y"] == [10] * 12
    assert line(harvest, "sustained", 5)["y"] == [10] * 12  # the limit is the threshold
    assert line(harvest, "twelve", 5)["y"][:4] == [-1, -1, -1, None]  # no communication: none agreed
    assert sum(trace["showlegend"] for trace in harvest["data"]) == 2


def test_a_newcomers_panel_begins_when_it_joins():
    harvest = figures([condition("n", experiment="newcomer")])["harvest.plotly.json"]
    assert line(harvest, "n", 4)["y"][:5] == [None, None, None, 10, 10]


def test_large_societies_show_the_first_agents():
    harvest = figures([condition(agents=100, capacity=2_000)])["harvest.plotly.json"]
    assert len(harvest["layout"]["annotations"]) == MAX_PANELS + 1


def test_gini_is_shown_to_two_decimals():
    unequal = condition(policies=[{"type": "fixed", "quantity": quantity} for quantity in (25, 10, 8, 5, 2)])
    gini = figures([unequal])["gini.plotly.json"]
    assert gini["data"][0]["y"] == [0.41] * 12  # 1 − .592


def test_over_usage_stands_in_both_countings_and_says_who_talks(drawn):
    by_harvest, as_published = drawn["over_usage"]["data"]
    assert by_harvest["x"] == ["sustained (with communication)", "twelve (without communication)"]
    assert by_harvest["y"][1] == as_published["y"][1] > 0  # without talk both countings agree
