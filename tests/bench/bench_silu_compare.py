"""Does the activation matter? `silu.compare` at its defaults: thirty paired seeds, digits and breast_cancer.

    ./tenfold bench silu_compare [--quick]

And breast_cancer once more with its features as they come, badly scaled. A row's peer is ReLU on the same seeds; the
spread is the 95 % interval of the paired difference, with p before and after Holm's correction over the job's table.
About five minutes on one core; no time is in it.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from shared.jobs.catalog.silu import CompareParams, CompareResult, Interval, Paired
from shared.jobs.local import LocalContext
from workers.silu.jobs import compare

QUICK: dict[str, Any] = {"seeds": 10, "epochs": 2, "hidden": 16, "lr_grid": [1e-3]}
STUDIES: dict[str, dict[str, Any]] = {
    "": {},
    ", badly scaled": {"datasets": ["builtin:breast_cancer"], "scaling": "none"},
}
Row = dict[str, Any]


def rows(quick: bool = False) -> list[Row]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for title, params in STUDIES.items():
            ctx = LocalContext(Path(folder) / f"study{title}")
            result = compare(CompareParams(**{"cost_elements": 0, **params, **(QUICK if quick else {})}), ctx)
            ctx.close()
            table += rows_of(title, result)
    torch.set_num_threads(before)
    return table


def rows_of(title: str, result: CompareResult) -> list[Row]:
    """Test accuracy, epochs to the threshold, accuracy under noise of one σ; then the verdicts."""
    base = result.baseline
    for each in result.verdict:
        print(f"{each.claim}{title}: {each.verdict}. {each.sentence}", file=sys.stderr)
    accuracy = {(cell.dataset, cell.activation): cell for cell in result.table}
    epochs = {(each.dataset, each.activation): each for each in result.convergence}
    noisy = {(each.dataset, each.activation): each for each in result.robustness if each.sigma == 1.0}
    found = []
    for key, cell in accuracy.items():
        if cell.activation != base:
            peer = (cell.dataset, base)
            found += [
                _row(key, title, "test accuracy", (cell.accuracy, accuracy[peer].accuracy), cell.against),
                _row(
                    key,
                    title,
                    "epochs to the threshold",
                    (epochs[key].epochs, epochs[peer].epochs),
                    epochs[key].against,
                ),
                _row(
                    key, title, "accuracy under noise", (noisy[key].accuracy, noisy[peer].accuracy), noisy[key].against
                ),
            ]
    return found


def _row(key: tuple[str, str], title: str, figure: str, pair: tuple[Interval, Interval], against: Paired | None) -> Row:
    assert against is not None
    (dataset, activation), (ours, peer) = key, pair
    lower, higher = (ours.mean, peer.mean) if figure.startswith("epochs") else (peer.mean, ours.mean)
    p = "no test" if against.p is None else f"p {against.p:.3g}, Holm {against.p_holm:.3g}"
    return {
        "what": f"{dataset}{title}, {activation}: {figure}", "ours": round(ours.mean, 4), "peer": round(peer.mean, 4),
        "peer_name": "relu", "unit": "epochs" if figure.startswith("epochs") else "share",
        "ratio": round(higher / lower, 3) if lower else None,
        "spread": f"{against.difference:+.4f} [{against.low:+.4f}, {against.high:+.4f}], {p}", "goal": None,
    }  # fmt: skip
