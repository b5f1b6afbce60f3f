"""Every fact of the specification's table is found, and the popular wrong claims are refuted."""

import json

import pytest

from shared.jobs.catalog.silu import PropertiesParams
from shared.jobs.local import LocalContext
from workers.silu.jobs import properties


@pytest.fixture(scope="module", params=[1.0, 0.1, 2.0], ids=lambda beta: f"beta={beta:g}")
def found(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("properties")
    ctx = LocalContext(folder)
    result = properties(PropertiesParams(beta=request.param), ctx)
    ctx.close()
    return result, folder


def test_every_fact_holds(found):
    result, _ = found
    assert [fact for fact in result.properties if not fact.passed] == []
    assert result.passed == len(result.properties) >= 50


@pytest.mark.parametrize(
    "stated",
    [
        "minimum at x*", "f(x*) = x* + 1", "f″(x*)", "stationary points", "falls before", "rises after",
        "f(x) − f(−x) = x", "x·tanh", "f′(x) + f′(−x) = 1", "even", "f((1 + W)/β)", "f′ is greatest", "least f′",
        "Lipschitz constant of f", "Lipschitz constant of f′", "least f″", "convex", "concave", "distance to ReLU",
        "E f,", "E f²", "Var f", "E f′ = 1/2", "E f′²", "gain 1/√E", "gain 1/√Var", "f_β(x) = f(βx)/β", "∂f/∂β",
        "f_−β", "β → 0", "β → ∞", "GELU's minimum", "GELU's greatest slope", "Mish's minimum", "Mish's greatest slope",
        "SiLU − GELU", "1.702x",
    ],
)  # fmt: skip
def test_no_row_of_the_table_is_left_out(found, stated):
    result, _ = found
    assert any(stated in fact.name for fact in result.properties)


def test_the_popular_wrong_claims_are_refuted_with_numbers(found):
    result, _ = found
    verdicts = {claim.claim: (claim.verdict, claim.evidence) for claim in result.claims}
    assert verdicts["SiLU is zero-centred"][0] == "false"
    assert verdicts["SiLU is 1-Lipschitz"] == ("false", "its slope reaches 1.0998")
    assert verdicts["SiLU is monotone"][0] == "false"
    assert verdicts["SiLU was first proposed by Google in 2017"][0] == "false"


def test_the_mean_output_of_normal_input_is_a_fifth(found):
    result, _ = found
    mean = next(fact for fact in result.properties if fact.name.startswith("E f,"))
    assert mean.found == pytest.approx(0.206620964141907, abs=1e-12)


def test_the_figure_marks_the_extrema(found):
    _, folder = found
    figure = json.loads((folder / "curves.plotly.json").read_text())
    assert [trace["name"] for trace in figure["data"]] == [
        "f", "extrema of f", "f′", "extrema of f′", "f″", "extrema of f″",
    ]  # fmt: skip


def test_a_wrong_function_would_be_noticed(monkeypatch, tmp_path):
    import workers.silu.facts

    monkeypatch.setattr(workers.silu.facts, "silu", lambda x, beta=1.0: x * (beta * x * 1.001).sigmoid())
    assert properties(PropertiesParams(), LocalContext(tmp_path)).failed > 10
