import pytest
import typer

from services.cli.assignments import grid_of, labels_of, params_of, seeds_of, value_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("3", 3, id="integer"),
        pytest.param("0.5", 0.5, id="number"),
        pytest.param("true", True, id="boolean"),
        pytest.param("null", None, id="null"),
        pytest.param("[1, 2]", [1, 2], id="list"),
        pytest.param('{"type": "greedy"}', {"type": "greedy"}, id="object"),
        pytest.param('"3"', "3", id="a quoted string"),
        pytest.param("fishery", "fishery", id="a bare string"),
        pytest.param("builtin:colours", "builtin:colours", id="a reference"),
        pytest.param("", "", id="nothing"),
        pytest.param("NaN", "NaN", id="what JSON has no word for"),
    ],
)
def test_a_value_is_json_where_it_is_json_and_text_otherwise(text, value):
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


def test_a_dotted_key_sets_a_field_of_a_field():
    assert params_of(None, ["policies.type=fixed", "policies.quantity=30", "runs=2"]) == {
        "policies": {"type": "fixed", "quantity": 30},
        "runs": 2,
    }


def test_assignments_lie_over_the_file(tmp_path):
    (tmp_path / "params.json").write_text('{"runs": 5, "seed": 1}')
    assert params_of(tmp_path / "params.json", ["runs=2"]) == {"runs": 2, "seed": 1}


def test_a_value_may_hold_an_equals_sign():
    assert params_of(None, ["prompt=a=b"]) == {"prompt": "a=b"}


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        pytest.param(["runs"], "-p runs: write key=value", id="no equals sign"),
        pytest.param(["=3"], "-p =3: write key=value", id="no key"),
        pytest.param(["a=1", "a.b=2"], "-p a.b: a is already a value, not an object", id="a field of a number"),
    ],
)
def test_an_assignment_that_makes_no_sense_says_why(assignments, says):
    with pytest.raises(typer.BadParameter, match=says):
        params_of(None, assignments)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("[1]", "must hold an object, it holds a list", id="a list"),
        pytest.param("{", "is not JSON", id="cut off"),
        pytest.param(None, "No such file", id="missing"),
    ],
)
def test_a_params_file_that_cannot_be_used_says_why(tmp_path, content, says):
    file = tmp_path / "params.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(typer.BadParameter, match=says):
        params_of(file, [])


def test_labels_are_pairs_of_text():
    assert labels_of(["study=7", "who=ada"]) == {"study": "7", "who": "ada"}


def test_a_grid_lists_the_values_of_each_field():
    assert grid_of(["months=6,12", "policies.type=greedy,threshold", 'policies=[{"type": "greedy"}]']) == {
        "months": [6, 12],
        "policies.type": ["greedy", "threshold"],
        "policies": [{"type": "greedy"}],
    }


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        pytest.param(None, [], id="none"),
        pytest.param("3", [3], id="one"),
        pytest.param("1,2,5", [1, 2, 5], id="listed"),
        pytest.param("1-3,7", [1, 2, 3, 7], id="a range, both ends included"),
    ],
)
def test_seeds_are_numbers_and_ranges(text, seeds):
    assert seeds_of(text) == seeds


def test_a_seed_that_is_no_number_is_refused():
    with pytest.raises(typer.BadParameter, match="write numbers as 1,2,5 or a range as 1-10"):
        seeds_of("a")
