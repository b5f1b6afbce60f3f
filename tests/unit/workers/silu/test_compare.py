"""The comparison of activations: pairing, tests, verdicts from the numbers, refusals, and killed anywhere."""

import json

import numpy as np
import pytest
import torch

from shared.jobs.catalog.silu import CompareParams, Paired
from shared.jobs.errors import Cancelled, InvalidInput
from shared.jobs.local import LocalContext
from workers.silu.conclusions import verdict
from workers.silu.datasets import Data, built_in, read_file, scaled, split
from workers.silu.jobs import compare
from workers.silu.networks import Shape, initial

FILE = "file:" + "a" * 64
SMALL = {"seeds": 3, "epochs": 3, "hidden": 16, "lr_grid": [1e-3, 1e-2], "datasets": ["builtin:breast_cancer"],
         "cost_elements": 0}  # fmt: skip


def run(folder, inputs=None, **params):
    ctx = LocalContext(folder, inputs=inputs)
    result = compare(CompareParams(**{**SMALL, **params}), ctx)
    ctx.close()
    return result


def contents(folder):
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "timings.jsonl"
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, epochs=25), folder


def test_every_activation_is_compared_with_relu(whole):
    result, folder = whole
    assert result.baseline == "relu"
    assert [cell.activation for cell in result.table] == ["relu", "gelu", "silu", "mish"]
    assert result.table[0].against is None
    assert all(cell.accuracy.mean > 0.85 for cell in result.table)
    assert len(result.robustness) == 4 * 4
    assert json.loads((folder / "results.json").read_text())["seeds"] == 3


def test_curves_hold_every_arm_seed_and_epoch(whole):
    _, folder = whole
    lines = (folder / "curves.csv").read_text().splitlines()
    assert lines[0].startswith("dataset,activation,lr,seed,epoch")
    assert len(lines) == 1 + 4 * 2 * 3 * 25


def test_fewer_than_ten_seeds_call_nothing_significant(whole):
    result, _ = whole
    pair = result.table[1].against
    assert (pair.p, pair.p_holm, pair.significant) == (None, None, None)
    assert pair.bootstrap_low is not None
    assert "too few" in result.warnings[0]
    assert all("too few seeds" in each.sentence and each.verdict == "not supported" for each in result.verdict)


def test_ten_seeds_are_tested_with_holms_correction(tmp_path):
    result = run(tmp_path, seeds=10, epochs=2, lr_grid=[1e-3], activations=["relu", "silu", "gelu"])
    pairs = [cell.against for cell in result.table if cell.against]
    assert all(pair.p <= pair.p_holm <= 1 for pair in pairs)
    assert all(pair.significant == (pair.p_holm < 0.05) for pair in pairs)
    assert result.warnings == []


class Stop(LocalContext):
    """Cancels itself at one epoch."""

    stop_at = 0

    def progress(self, done, total, unit, message=""):
        if done == self.stop_at:
            self.cancelled = True
        super().progress(done, total, unit, message)


@pytest.mark.parametrize("stop_at", [7, 15, 36, 110])
def test_killed_anywhere_it_gives_the_same_bytes(whole, tmp_path, stop_at):
    params = CompareParams(**{**SMALL, "epochs": 25})
    ctx = Stop(tmp_path)
    ctx.stop_at = stop_at
    with pytest.raises(Cancelled):
        compare(params, ctx)
    ctx.release()
    again = LocalContext(tmp_path)
    assert compare(params, again) == whole[0]
    again.close()
    assert contents(tmp_path) == contents(whole[1])


# Pairing --------------------------------------------------------------------------------------------------------------


def test_networks_of_one_seed_begin_alike_whatever_their_activation():
    shape = Shape(5, 8, 2, 3)
    relu, silu = (initial(shape, [1, 2], name, 1.0, "he") for name in ("relu", "silu"))
    assert all(torch.equal(a, b) for a, b in zip(relu.weights, silu.weights, strict=True))
    assert not torch.equal(relu.weights[0][0], relu.weights[0][1])


def test_hes_variance_is_two_over_fan_in_and_one_in_the_last_layer():
    networks = initial(Shape(400, 400, 2, 400), [0], "silu", 1.0, "he")
    assert [float(weight.detach().var() * 400) for weight in networks.weights] == pytest.approx([2, 2, 1], rel=0.02)
    own = initial(Shape(400, 400, 2, 400), [0], "silu", 1.0, "own")
    assert float(own.weights[0].detach().var() * 400) == pytest.approx(1 / 0.355775519817352, rel=0.02)


def test_batched_networks_compute_what_single_ones_do():
    networks = initial(Shape(5, 8, 2, 3), [1, 2], "mish", 1.0, "he")
    x = torch.randn(2, 7, 5)
    for seed in range(2):
        single = x[seed]
        for layer, weight in enumerate(networks.weights):
            single = single @ weight[seed]
            single = torch.nn.functional.mish(single) if layer < 2 else single
        torch.testing.assert_close(networks.logits(x)[seed].detach(), single.detach())


def test_a_learnt_beta_has_one_value_per_layer_and_network(tmp_path):
    networks = initial(Shape(5, 8, 2, 3), [1, 2], "silu", "learn", "he")
    assert [tuple(beta.shape) for beta in networks.beta] == [(2, 1, 1)] * 2
    result = run(tmp_path, beta="learn", activations=["relu", "silu"], epochs=1)
    assert len(result.table) == 2


def test_the_learning_rate_is_chosen_on_validation(whole):
    result, folder = whole
    rows = [line.split(",") for line in (folder / "curves.csv").read_text().splitlines()[1:]]
    for cell in result.table:
        ends = {
            lr: np.mean([float(r[7]) for r in rows if r[1] == cell.activation and r[4] == "25" and float(r[2]) == lr])
            for lr in (1e-3, 1e-2)
        }
        assert ends[cell.lr] == pytest.approx(max(ends.values()))


def test_a_threshold_never_reached_counts_one_epoch_more_and_is_said(tmp_path):
    result = run(tmp_path, epochs=1, threshold=1.0, activations=["relu", "silu"])
    assert all(row.epochs.mean == 2 and row.not_reached == 3 for row in result.convergence)


def test_constant_features_do_not_explode_on_the_test_part():
    # Trap: dividing by the sd plus next to nothing sends test inputs to millions.
    data = built_in("digits")
    for seed in range(5):
        own = split(data, seed)
        assert np.abs(scaled(data, own.train, "standard")).max() < 100


def test_splits_are_disjoint_and_the_seeds_own():
    data = built_in("breast_cancer")
    parts = split(data, 3)
    assert sorted(np.concatenate(parts)) == list(range(569))
    assert [len(part) for part in parts] == [398, 85, 86]
    assert not np.array_equal(parts.train, split(data, 4).train)


# Verdicts -------------------------------------------------------------------------------------------------------------


def pair(difference, significant):
    return Paired(difference=difference, low=difference - 1, high=difference + 1, bootstrap_low=None,
                  bootstrap_high=None, effect=None, p=0.01, p_holm=0.01, significant=significant)  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "better", "said"),
    [
        pytest.param([(0.2, True), (0.1, False)], 1, "supported", id="better-somewhere-worse-nowhere"),
        pytest.param([(0.2, True), (-0.1, True)], 1, "mixed", id="changes-sign"),
        pytest.param([(0.2, False), (0.3, False)], 1, "not supported", id="chance"),
        pytest.param([(-0.2, True)], 1, "not supported", id="worse"),
        pytest.param([(-2.0, True)], -1, "supported", id="fewer-epochs-are-better"),
    ],
)
def test_a_verdict_comes_from_the_numbers(pairs, better, said):
    rows = [(f"data {number}", pair(*each)) for number, each in enumerate(pairs)]
    found = verdict("a claim", rows, better, "accuracy")
    assert found.verdict == said
    assert f"{pairs[0][0]:+.4f}" in found.sentence


# Files ----------------------------------------------------------------------------------------------------------------


def csv_lines(rows=30):
    return [f"{number * 0.37 % 1},{number * 0.71 % 1},{number % 2}" for number in range(rows)]


def test_a_csv_with_a_named_label_and_an_npz_are_read_alike(tmp_path):
    (tmp_path / "a.csv").write_text("kind,x,y\n" + "\n".join(f"{n % 2},{n / 7},{n / 3}" for n in range(30)))
    data = read_file(tmp_path / "a.csv", "a.csv", "kind")
    np.savez(tmp_path / "b.npz", x=data.x, y=data.y)
    again = read_file(tmp_path / "b.npz", "b.npz", None)
    assert np.array_equal(data.x, again.x)
    assert np.array_equal(data.y, again.y)


def test_an_uploaded_file_is_compared(tmp_path):
    (tmp_path / "a.csv").write_text("\n".join(csv_lines(60)))
    result = run(tmp_path / "out", {FILE: tmp_path / "a.csv"}, datasets=[FILE], activations=["relu", "silu"])
    assert {cell.dataset for cell in result.table} == {FILE}


@pytest.mark.parametrize(
    ("lines", "label", "said"),
    [
        pytest.param([*csv_lines(), "nan,1,0"], None, "line 31 holds NaN", id="nan"),
        pytest.param([*csv_lines(), "inf,1,0"], None, "line 31 holds NaN or an infinity", id="infinity"),
        pytest.param([f"{n},1,0" for n in range(30)], None, "one class only", id="one-class"),
        pytest.param([f"{n}" for n in range(30)], None, "no label column", id="one-column"),
        pytest.param(["x,y,z", *csv_lines()], "kind", "no label column 'kind'; it has x, y, z", id="unknown-label"),
        pytest.param(csv_lines(), "kind", "has no header row", id="label-without-header"),
        pytest.param([*csv_lines(), "0.5,cat,1"], None, "'cat', which is no number", id="word"),
        pytest.param([*csv_lines(), "0.5,1"], None, "line 31 has 2 columns", id="short-line"),
        pytest.param([f"{n},1,{n / 4}" for n in range(30)], None, "label 0.25 is no integer", id="real-labels"),
        pytest.param(csv_lines(5), None, "5 examples", id="few"),
        pytest.param([], None, "is empty", id="empty"),
    ],
)
def test_bad_data_is_refused_with_line_and_remedy(tmp_path, lines, label, said):
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(InvalidInput, match=said):
        run(tmp_path / "out", {FILE: tmp_path / "a.csv"}, datasets=[FILE], label=label)
    assert not (tmp_path / "out" / "results.json").exists()


def test_pickled_arrays_are_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object), y=np.zeros(1))
    with pytest.raises(InvalidInput, match="save plain arrays"):
        read_file(tmp_path / "a.npz", "a.npz", None)


def test_an_array_without_labels_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.zeros((30, 2)), other=np.zeros(30))
    with pytest.raises(InvalidInput, match="no label column"):
        read_file(tmp_path / "a.npz", "a.npz", None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_seeds_give_the_specifications_picture(tmp_path):
    """No accuracy difference on digits beyond chance; accuracies within .01 of the specification's."""
    result = run(tmp_path, **{**SMALL, "seeds": 30, "epochs": 40, "hidden": 128, "lr_grid": [3e-4, 1e-3, 3e-3],
                              "datasets": ["builtin:digits", "builtin:breast_cancer"]})  # fmt: skip
    cells = {(cell.dataset, cell.activation): cell for cell in result.table}
    for activation, accuracy in (("relu", 0.9775), ("gelu", 0.9788), ("silu", 0.9780), ("mish", 0.9785)):
        assert cells["digits", activation].accuracy.mean == pytest.approx(accuracy, abs=0.01)
    assert cells["breast_cancer", "relu"].accuracy.mean == pytest.approx(0.9717, abs=0.012)
    assert not cells["digits", "silu"].against.significant


def test_data_is_a_named_tuple_of_arrays():
    assert Data("a", np.zeros((1, 1)), np.zeros(1, np.int64), 2).classes == 2
