"""What SiLU's Params alone show to be wrong is refused with the field named."""

import pytest
from pydantic import ValidationError

from shared.jobs.catalog.silu import KINDS, CompareParams, PropertiesParams, SwigluParams


@pytest.mark.parametrize(
    ("params", "values"),
    [
        (CompareParams(), {
            "activations": ["relu", "gelu", "silu", "mish"], "beta": 1.0,
            "datasets": ["builtin:digits", "builtin:breast_cancer"], "hidden": 128, "depth": 3, "epochs": 40,
            "batch_size": 64, "lr_grid": [3e-4, 1e-3, 3e-3], "seeds": 30, "noise_sigmas": [0.25, 0.5, 1.0, 2.0],
            "alpha": 0.05, "correction": "holm"}),
        (SwigluParams(), {"impl": "auto", "dtype": "fp32", "save": "recompute"}),
        (PropertiesParams(), {"beta": 1.0}),
    ],
    ids=["compare", "swiglu", "properties"],
)  # fmt: skip
def test_defaults_are_those_of_the_specification(params, values):
    assert {name: getattr(params, name) for name in values} == values


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        pytest.param(CompareParams, {"activations": ["relu", "tanh"]}, "relu", id="unknown-activation"),
        pytest.param(CompareParams, {"activations": ["relu"]}, "at least 2", id="one-activation"),
        pytest.param(CompareParams, {"activations": ["relu", "relu"]}, "names one twice", id="activation-twice"),
        pytest.param(CompareParams, {"datasets": ["builtin:iris"]}, "known: builtin:digits", id="unknown-builtin"),
        pytest.param(CompareParams, {"beta": "free"}, "learn", id="beta"),
        pytest.param(CompareParams, {"seeds": 1}, "greater than or equal to 2", id="one-seed"),
        pytest.param(CompareParams, {"lr_grid": []}, "at least 1", id="no-learning-rate"),
        pytest.param(SwigluParams, {"shapes": []}, "give shapes, or a model", id="nothing-to-time"),
        pytest.param(SwigluParams, {"shapes": [[2**20, 2**20]]}, "smaller ones", id="huge"),
        pytest.param(SwigluParams, {"impl": "liger"}, "triton", id="unknown-impl"),
        pytest.param(PropertiesParams, {"beta": 0}, "greater than 0", id="beta-zero"),
    ],
)
def test_what_is_wrong_is_said(model, params, said):
    with pytest.raises(ValidationError, match=said):
        model.model_validate(params)


def test_measured_fields_exist():
    for spec in KINDS:
        fields = [name for name in spec.measured if "." not in name]
        assert set(fields) <= set(spec.result.model_fields)
