"""The bench runs, says what is absent, and its goals are met."""

import importlib.util
import sys

import pytest

from tests.bench import bench_dsn
from tests.bench.bench_dsn import Bench, machine, rows, skipped


def test_the_machine_is_described():
    assert "load" in machine()


def test_an_absent_peer_is_said_to_be_absent(tmp_path, monkeypatch):
    bench = Bench(tmp_path, 1)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "nanogcg" else find(name, *more)
    )
    monkeypatch.delenv("TENFOLD_NANOGCG_PYTHON", raising=False)
    (row,) = bench.beside_nanogcg()
    assert (row["ratio"], "skipped" in row["spread"]) == (None, True)
    assert "skipped" in bench.pinned()[0]["spread"]
    assert skipped("a", "b", "c")["goal"] is None


@pytest.mark.parametrize(("python", "says"), [
    ("/no/such/python", "No such file"), (sys.executable, "No module named"),
])  # fmt: skip
def test_an_environment_that_has_no_peer_is_said_to_have_none(tmp_path, monkeypatch, python, says):
    (tmp_path / "peer.py").write_text("import nonesuch_peer")
    monkeypatch.setattr(bench_dsn.nanogcg_peer, "__file__", str(tmp_path / "peer.py"))
    monkeypatch.setenv("TENFOLD_NANOGCG_PYTHON", python)
    (row,) = Bench(tmp_path, 1).pinned()
    assert (row["ratio"], row["goal"]) == (None, None)
    assert says in row["spread"]


def test_the_peers_own_environment_is_a_row_as_installed_and_one_without_its_collections(tmp_path, monkeypatch):
    said = {"transformers": "4.47.1", "installed": [400.0, 500.0], "stubbed": [30.0, 40.0]}
    (tmp_path / "peer.py").write_text(f"import json\nprint(json.dumps({said}))")
    monkeypatch.setattr(bench_dsn.nanogcg_peer, "__file__", str(tmp_path / "peer.py"))
    monkeypatch.setenv("TENFOLD_NANOGCG_PYTHON", sys.executable)
    installed, stubbed = Bench(tmp_path, 1).pinned()
    assert (installed["peer"], stubbed["peer"]) == (450.0, 35.0)
    assert "4.47.1" in installed["peer_name"]
    assert "stubbed" in stubbed["peer_name"]
    assert installed["ours"] == stubbed["ours"] > 0


def test_the_loop_that_the_refusal_loss_is_measured_against_is_the_same_loss():
    import torch

    from workers.dsn.objective import RefusalWeights, window_losses

    torch.manual_seed(0)
    logits, keywords = torch.randn(3, 6, 12), [[1, 2], [3], [4, 5, 6]]
    weights = RefusalWeights.build(keywords, 6)
    found = window_losses(logits, torch.tensor([0] * 5), torch.ones(5), weights).refusal
    torch.testing.assert_close(bench_dsn.looped(logits, keywords), found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the peer
def test_the_goals_are_met():
    for row in rows(quick=True):
        if row["goal"] is not None:
            assert row["ratio"] >= row["goal"], row
