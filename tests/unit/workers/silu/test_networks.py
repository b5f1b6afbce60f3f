"""The study's parts: networks that don't feel each other, data, splits, scaling, costs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared.jobs.catalog.silu import SwigluParams
from shared.jobs.errors import InvalidInput
from workers.silu.activations import FUNCTIONS, SQUARES, gain_of
from workers.silu.datasets import Data, built_in, read_file, scaled, split
from workers.silu.networks import Shape, accuracies, initial, losses
from workers.silu.timing import Core, activation_costs, interleaved, saved_bytes, shape_rows

# Activations ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_mean_square_of_every_activation_is_that_of_quadrature(name):
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-(x**2) / 2) / (2 * torch.pi) ** 0.5
    square = torch.trapezoid(FUNCTIONS[name](x) ** 2 * density, x)
    assert float(square) == pytest.approx(SQUARES[name], abs=1e-8)


def test_the_gain_of_relu_is_hes_and_silus_the_tables():
    assert gain_of("relu") == pytest.approx(2**0.5)
    assert gain_of("silu") == pytest.approx(1.67653247033109, abs=1e-12)


# Networks -------------------------------------------------------------------------------------------------------------

SHAPE = Shape(6, 8, 2, 3)


def test_a_network_learns_as_it_would_alone():
    x, y = torch.randn(3, 20, 6), torch.randint(0, 3, (3, 20))

    def trained(seeds, rows):
        networks = initial(SHAPE, seeds, "silu", 1.0, "he")
        optimiser = torch.optim.Adam(networks.parameters, lr=0.01)
        for _ in range(5):
            optimiser.zero_grad()
            losses(networks.logits(x[rows]), y[rows]).sum().backward()
            optimiser.step()
        return networks.weights

    together, alone = trained([1, 2, 3], [0, 1, 2]), trained([2], [1])
    for batched, single in zip(together, alone, strict=True):
        torch.testing.assert_close(batched[1].detach(), single[0].detach(), atol=1e-5, rtol=1e-4)


def test_the_first_weights_are_the_seeds_own_in_any_company():
    one, other = initial(SHAPE, [5], "relu", 1.0, "he"), initial(SHAPE, [4, 5], "mish", 1.0, "he")
    for alone, company in zip(one.weights, other.weights, strict=True):
        assert torch.equal(alone[0], company[1])


def test_a_fixed_beta_bends_silu_and_leaves_the_others():
    x = torch.randn(1, 4, 6)
    bent, plain = (initial(SHAPE, [1], "silu", beta, "he") for beta in (3.0, 1.0))
    assert not torch.allclose(bent.logits(x), plain.logits(x))
    one, other = (initial(SHAPE, [1], "gelu", beta, "he") for beta in (3.0, 1.0))
    assert torch.equal(one.logits(x), other.logits(x))


def test_a_learnt_beta_moves():
    networks = initial(SHAPE, [1], "silu", "learn", "he")
    losses(networks.logits(torch.randn(1, 30, 6)), torch.randint(0, 3, (1, 30))).sum().backward()
    assert all(float(beta.grad.abs()) > 0 for beta in networks.beta)


def test_losses_and_accuracies_are_each_networks_own():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[0.0, 2.0], [0.0, 2.0]]])
    targets = torch.tensor([[0, 1], [0, 1]])
    assert accuracies(logits, targets).tolist() == [1.0, 0.5]
    torch.testing.assert_close(losses(logits, targets)[1], F.cross_entropy(logits[1], targets[1]))


# Data -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape", "classes"), [("digits", (1797, 64), 10), ("breast_cancer", (569, 30), 2)])
def test_the_shipped_data_are_those_of_scikit_learn(name, shape, classes):
    data = built_in(name)
    assert (data.x.shape, data.classes, set(np.unique(data.y))) == (shape, classes, set(range(classes)))


def test_scaling_looks_at_the_training_part_alone():
    x = np.concatenate((np.random.default_rng(0).normal(5, 2, (50, 3)), np.full((10, 3), 1e6)))
    data = Data("a", x, np.zeros(60, np.int64), 2)
    each = scaled(data, np.arange(50), "standard")
    assert each[:50].mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    assert each[:50].std(axis=0) == pytest.approx(np.ones(3))
    assert scaled(data, np.arange(50), "none") is x


def test_one_global_scale_keeps_the_features_ratios():
    x = np.random.default_rng(0).normal(size=(40, 2)) * [1.0, 10.0]
    found = scaled(Data("digits", x, np.zeros(40, np.int64), 2), np.arange(40), "auto")
    assert found.std() == pytest.approx(1.0)
    assert found[:, 1].std() / found[:, 0].std() == pytest.approx(x[:, 1].std() / x[:, 0].std())


def test_data_without_any_spread_are_only_centred():
    data = Data("digits", np.full((30, 2), 7.0), np.zeros(30, np.int64), 2)
    for scaling in ("global", "standard"):
        assert np.array_equal(scaled(data, np.arange(20), scaling), np.zeros((30, 2)))


def test_a_seeds_split_does_not_depend_on_the_labels():
    one = Data("a", np.zeros((100, 1)), np.zeros(100, np.int64), 2)
    other = one._replace(y=np.arange(100) % 2)
    assert all(np.array_equal(a, b) for a, b in zip(split(one, 3), split(other, 3), strict=True))


def test_labels_are_numbered_from_nought_whatever_they_are(tmp_path):
    rows = [f"{n / 7},{(-5, 3, 90)[n % 3]}" for n in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    data = read_file(tmp_path / "a.csv", "a.csv", None)
    assert (data.classes, data.y[:3].tolist()) == (3, [0, 1, 2])


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    text = "\ufeffx,label\r\n" + "".join(f"{n / 7},{n % 2}\r\n" for n in range(30))
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert read_file(tmp_path / "a.csv", "a.csv", "label").x.shape == (30, 1)


def test_one_array_has_its_labels_in_the_last_column(tmp_path):
    both = np.column_stack((np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2))
    np.savez(tmp_path / "a.npz", both)
    data = read_file(tmp_path / "a.npz", "a.npz", None)
    assert np.array_equal(data.x, both[:, :2])


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        pytest.param({"both": np.zeros(30)}, r"expected \(examples, features \+ 1\)", id="one-dimension"),
        pytest.param({"x": np.zeros((30, 2)), "y": np.zeros(29)}, r"x is \(30, 2\) and y \(29,\)", id="lengths"),
        pytest.param({"x": np.full((30, 2), np.nan), "y": np.arange(30) % 2}, "line 1 holds NaN", id="nan"),
        pytest.param({"x": np.zeros((30, 2)), "y": np.arange(30) / 2}, "label 0.5 is no integer", id="real-labels"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InvalidInput, match=said):
        read_file(tmp_path / "a.npz", "a.npz", None)


def test_text_in_another_encoding_is_refused_by_byte(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"x,y\n1,\xff\n")
    with pytest.raises(InvalidInput, match="not UTF-8 at byte 6"):
        read_file(tmp_path / "a.csv", "a.csv", None)


# Costs ----------------------------------------------------------------------------------------------------------------


def test_contenders_take_turns_and_none_is_timed_cold():
    order = []
    taken = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, "cpu")
    assert "".join(order) == "ab" + "ab" * 3
    assert set(taken) == {"a", "b"}


def test_no_elements_are_no_measurement():
    assert activation_costs(["relu", "silu"], 0) == []


def test_backward_costs_more_than_forward_alone():
    (cost,) = activation_costs(["mish"], 1 << 14)
    assert 0 < cost.forward_ms < cost.forward_backward_ms


def test_every_form_that_runs_here_is_a_row_and_one_is_the_fastest():
    rows = shape_rows(SwigluParams(shapes=[[4, 32]], impl="eager"), (4, 32), "cpu")
    assert [(row.impl, row.fastest) for row in rows] == [("eager", True)]


@pytest.mark.parametrize(("impl", "tensors"), [("eager", 3), ("native", 2)])
def test_saved_bytes_are_the_tensors_that_wait_for_backward(impl, tensors):
    core = Core.of((4, 32), torch.float32, "cpu", 0)
    if impl == "native":
        from shared.models.swiglu_native import kernel

        if kernel() is None:
            pytest.skip("no C++ compiler")
    assert saved_bytes(core, impl, SwigluParams(shapes=[[4, 32]])) == tensors * core.g.nbytes
