"""The figures of LayerSkip's kinds hold the numbers they are drawn from."""

import json

import pytest

from shared.jobs.catalog.layerskip import ExitFigures
from workers.layerskip import figures as draw


def exits(*values):
    return [
        ExitFigures(exit_layer=number, loss=value, perplexity=10 * value, agreement=value / 4, overlap=value / 5)
        for number, value in enumerate(values, start=1)
    ]


def test_perplexity_is_drawn_for_every_model_on_a_log_scale():
    figure = draw.perplexity_by_exit({"this model": exits(3.0, 2.0), "baseline": exits(4.0, 2.0)})
    assert [(trace["name"], trace["y"]) for trace in figure["data"]] == [
        ("this model", [30.0, 20.0]), ("baseline", [40.0, 20.0])
    ]  # fmt: skip
    assert figure["layout"]["yaxis"]["type"] == "log"


def test_agreement_and_overlap_share_an_axis_of_shares():
    agreed, overlap = draw.agreement_by_exit(exits(2.0, 4.0))["data"]
    assert (agreed["x"], agreed["y"], overlap["y"]) == ([1, 2], [0.5, 1.0], [0.4, 0.8])


def test_the_schedule_is_dropout_by_layer_beside_the_weights_of_exits():
    rates, shares = draw.schedule([[0.0, 0.1], [0.0, 0.2]], [{1: 1.0}, {0: 0.25, 1: 0.75}], [0, 9])["data"]
    assert rates["z"] == [[0.0, 0.0], [0.1, 0.2]]
    assert shares["z"] == [[0.0, 0.25], [1.0, 0.75]]
    assert rates["x"] == shares["x"] == [0, 9]


def test_held_out_curves_are_one_an_exit():
    curves = draw.held_out_curves([[50, 3.0, 2.5], [100, 2.0, None]])["data"]
    assert [(curve["name"], curve["x"], curve["y"]) for curve in curves] == [
        ("E = 1", [50, 100], [3.0, 2.0]), ("E = 2", [50, 100], [2.5, None])
    ]  # fmt: skip


def test_the_heat_map_is_drafts_by_exits_with_one_in_the_middle():
    (trace,) = draw.speedup_map({(1, 2): 1.5, (1, 4): 1.7, (3, 2): 0.9}, "t")["data"]
    assert (trace["x"], trace["y"], trace["zmid"]) == ([1, 3], [2, 4], 1)
    assert trace["z"] == [[1.5, 0.9], [1.7, None]]


def test_points_lie_beside_the_line_of_what_was_predicted():
    dots, diagonal = draw.predicted_against_measured([("E1 K2", 1.5, 1.4), ("E2 K2", 2.5, 2.0)])["data"]
    assert (dots["x"], dots["y"], dots["text"]) == ([1.5, 2.5], [1.4, 2.0], ["E1 K2", "E2 K2"])
    assert diagonal["x"] == diagonal["y"] == [0, 2.5]


def test_costs_are_curves_over_the_tokens_of_a_pass():
    layer, head = draw.costs_curve({1: 1.0, 3: 1.2}, {1: 1.0, 3: 0.7})["data"]
    assert (layer["x"], layer["y"], head["y"]) == ([1, 3], [1.0, 1.2], [1.0, 0.7])


def test_acceptance_by_position_counts_only_steps_that_reached_it():
    # (accepted, drafted): position 2 was reached by the steps that accepted one or more.
    bars, curve = draw.accepted_lengths([(2, 2), (1, 2), (0, 2), (0, 1)])["data"]
    assert (bars["x"], bars["y"]) == ([0, 1, 2], [2, 1, 1])
    assert curve["y"] == [0.5, 0.5]
    assert curve["yaxis"] == "y2"


def test_a_position_that_nobody_reached_has_no_rate():
    _, curve = draw.accepted_lengths([(0, 3)])["data"]
    assert curve["y"] == [0.0, None, None]


def test_the_token_grid_is_green_where_an_exit_says_what_the_last_layer_does():
    (trace,) = draw.token_grid(["a", "b"], [["a", "x"], ["a", "b"]], [[True, False], [True, True]])["data"]
    assert trace["z"] == [[1, 0], [1, 1]]
    assert trace["text"] == [["a", "x"], ["a", "b"]]
    assert trace["y"] == [1, 2]


@pytest.mark.parametrize(
    "figure",
    [
        draw.bars(["a"], [None], "t", "ms"), draw.accepted_lengths([]), draw.predicted_against_measured([]),
        draw.perplexity_by_exit({"m": exits(1.0)}),
    ],
    ids=["bars", "no-steps", "no-points", "perplexity"],
)  # fmt: skip
def test_every_figure_is_plain_json_with_titled_axes(figure):
    assert json.loads(json.dumps(figure, allow_nan=False)) == figure
    assert {"title", "xaxis", "yaxis"} <= set(figure["layout"])
