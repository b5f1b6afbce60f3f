"""What a selection is worth to a model: INSTA's five tasks beside five random ones and all, by insta.downstream.

    ./tenfold bench insta_downstream [--quick]

Our forty generated tasks; four of them are targets, held out for every arm. Each arm trains a small T5 from scratch for
the same number of steps, adapts it to 64 examples of the target and is scored on 128 others, three seeds each. About 25
minutes on one core. The spread of a row is the 95 % t-interval over targets of the difference; nothing is claimed where
it holds zero. No wall time is in it, so a busy machine changes nothing.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.jobs.catalog.insta import Contrast, DownstreamParams, DownstreamResult, IndexParams
from shared.jobs.local import LocalContext
from workers.insta.jobs import downstream, index

INDEX = "file:" + "b" * 64
TARGETS = ["tenfold/sort_descending", "tenfold/count_vowels", "tenfold/remove_first_letter", "tenfold/largest_number"]
QUICK = {"steps": 10, "adapt_steps": 2, "eval_examples": 8, "width": 16, "layers": 1}
Row = dict[str, Any]


def study(folder: Path, quick: bool = False, say: Callable[[str, Any], None] = lambda event, data: None) -> Any:
    """The result of one study in a folder of its own."""
    made = LocalContext(folder / "index", cache=folder / "cache")
    index(IndexParams(library="builtin:tasks"), made)
    made.close()
    inputs = {INDEX: folder / "index" / "index.tar"}
    ctx = LocalContext(folder / "study", inputs=inputs, cache=folder / "cache", say=say)
    result = downstream(DownstreamParams(index=INDEX, targets=TARGETS, **(QUICK if quick else {})), ctx)
    ctx.close()
    return result


def rows(quick: bool = False) -> list[Row]:
    """Accuracy and loss of the first arm against each other one."""
    with tempfile.TemporaryDirectory() as folder:
        return rows_of(study(Path(folder), quick, _said))


def rows_of(result: DownstreamResult) -> list[Row]:
    """Two rows for each arm that the first is compared with."""
    arms = {arm.method: arm for arm in result.arms}
    first = result.arms[0]
    table = []
    for found in result.contrasts:
        other = arms[found.against]
        size = f"{len(result.targets)} targets × {result.seeds} seeds, {result.parameters:,} weights"
        table += [
            _row(f"exact matches after tuning on {first.method}'s tasks, {size}", first.accuracy, other.accuracy,
                 found, (found.difference, found.low, found.high), unit="share"),
            _row(f"loss after tuning on {first.method}'s tasks, nats per token", first.loss, other.loss,
                 found, (found.loss_difference, found.loss_low, found.loss_high), unit="nats"),
        ]  # fmt: skip
    return table


def _row(
    what: str, ours: float, peer: float, found: Contrast, interval: tuple[float, float | None, float | None], unit: str
) -> Row:
    difference, low, high = interval
    claimed = low is not None and high is not None and (low > 0 or high < 0)
    said = f"difference {difference:+.3f} [{low:+.3f}, {high:+.3f}]" if low is not None else f"{difference:+.3f}"
    ratio = (peer / ours if unit == "nats" else ours / peer) if ours and peer else None
    return {
        "what": what, "ours": round(ours, 3), "peer": round(peer, 3), "peer_name": f"tuning on {found.against}",
        "unit": unit, "ratio": ratio and round(ratio, 2), "goal": None,
        "spread": f"{said}: {'excludes zero' if claimed else 'nothing to claim'}",
    }  # fmt: skip


def _said(event: str, data: dict[str, Any]) -> None:
    if event == "progress" and data["done"] % 100 == 0:
        print(f"{data['done']} of {data['total']} steps", file=sys.stderr, flush=True)
