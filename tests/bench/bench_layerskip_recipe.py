"""What training for early exits is worth: the same small model with the recipe and without, three seeds an arm.

    ./tenfold bench layerskip_recipe [--quick]

Python's standard library and SNIPS (`layerskip_models`), half an hour on one core the first time; what is trained is
kept. `ours` is an arm's mean over seeds, the peer the baseline's on the same seeds; the spread names every seed. Greedy
acceptance of text that loops proves nothing: its rows have no goal. No wall time is in it.
"""

import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from shared.data.builtin import shipped
from shared.metrics.text import distinct_ngrams
from shared.models.llama_checkpoint import load_llama
from shared.models.llama_decoder import LlamaDecoder
from shared.models.skinny_gemm import compiled
from tests.bench import layerskip_models
from tests.bench.layerskip_models import ARMS, Text, real_folder, snips_prompts, trained
from workers.layerskip.answers import Answer, Stopping
from workers.layerskip.decoding import Decoding
from workers.layerskip.simulation import Recorded, record, simulate
from workers.layerskip.warping import Sampling

SEEDS = (0, 1, 2)
NEWLINE = 10
PLACES = ((1, 4), (2, 2), (2, 4), (2, 6), (4, 4))
Row = dict[str, Any]
Figures = dict[str, float]


class Goal(NamedTuple):
    """The specification's range of a figure for an arm: at least or most, by itself or against the baseline."""

    least: float | None = None
    most: float | None = None
    gain: float | None = None

    def said(self) -> str:
        parts = [
            None if self.least is None else f"≥ {self.least:g}",
            None if self.most is None else f"≤ {self.most:g}",
            None if self.gain is None else f"≥ baseline {self.gain:+g}",
        ]
        return ", ".join(part for part in parts if part)

    def holds(self, value: float, baseline: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.gain is None or value >= baseline + self.gain)
        )


GOALS: dict[tuple[Text, str, str], Goal] = {
    ("python", "baseline", "agreement E4"): Goal(most=0.56),
    ("python", "paper", "agreement E4"): Goal(gain=0.03),
    ("python", "short", "agreement E4"): Goal(gain=0.12),
    ("python", "trl", "agreement E4"): Goal(least=0.75, gain=0.2),
    ("python", "baseline", "agreement E2"): Goal(most=0.52),
    ("python", "trl", "agreement E2"): Goal(least=0.64),
    ("python", "baseline", "CE E2 − last"): Goal(least=0.6),
    ("python", "trl", "CE E2 − last"): Goal(most=0.4),
    ("snips", "baseline", "acceptance E2 K4"): Goal(most=0.25),
    ("snips", "trl", "acceptance E2 K4"): Goal(least=0.40),
}
LAST_CE = 0.06  # more than the baseline's, at most, for any arm


def rows(quick: bool = False) -> list[Row]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    table = rows_of("python", study("python", tuple(ARMS), quick))
    if real_folder() is None:
        table.append({**_row("SNIPS"), "peer_name": "skipped: no real data, set TENFOLD_REAL_DATA"})
    else:
        table += rows_of("snips", study("snips", ("baseline", "trl"), quick))
    torch.set_num_threads(before)
    return table


def study(text: Text, arms: tuple[str, ...], quick: bool = False) -> dict[tuple[str, int], Figures]:
    """Figures by arm and seed."""
    found = {}
    for seed in SEEDS[:1] if quick else SEEDS:
        for arm in arms:
            kept = trained(text, arm, seed, steps=10 if quick else 400)
            exits = kept.result.exits
            figures: Figures = {f"CE E{E}": exits[E - 1].loss or 0.0 for E in (1, 2, 4, 6, 8)}
            figures |= {f"agreement E{E}": exits[E - 1].agreement or 0.0 for E in (1, 2, 4, 6)}
            figures |= {f"Σ min(p, q) E{E}": exits[E - 1].overlap or 0.0 for E in (2, 4)}
            figures["CE E2 − last"] = figures["CE E2"] - figures["CE E8"]
            found[arm, seed] = figures | greedy(kept.folder, *prompts_of(text, quick))
            print(text, arm, seed, {name: round(value, 3) for name, value in found[arm, seed].items()}, file=sys.stderr)
    return found


def prompts_of(text: Text, quick: bool) -> tuple[list[bytes], int, frozenset[int]]:
    """(prompts, most new bytes, end tokens): twelve, 64 bytes of held-out source or SNIPS queries."""
    count, new = (2, 16) if quick else (12, 160 if text == "python" else 200)
    if text == "snips":
        return [prompt.encode() for prompt in snips_prompts(count)], new, frozenset({NEWLINE})
    data = shipped("stdlib-valid", layerskip_models.KEPT / "builtin")
    assert data is not None
    held_out = data.read_bytes()
    return [held_out[30_000 * n : 30_000 * n + 64] for n in range(count)], new, frozenset()


def greedy(folder: Path, prompts: list[bytes], new: int, ends: frozenset[int]) -> Figures:
    """Acceptance at some (E, K), exactly, from one plain pass per prompt."""
    decoder = LlamaDecoder(load_llama(folder), compiled(layerskip_models.KEPT / "kernels"))
    decoding = Decoding(decoder, Sampling(), max(len(prompt) for prompt in prompts) + new)
    records = [
        record(decoding, Answer(list(prompt), new, Stopping(new, ends)), torch.Generator()) for prompt in prompts
    ]
    found = {f"acceptance E{E} K{K}": _rate(records, E, K) for E, K in PLACES}
    return found | {"distinct 4-grams": distinct_ngrams([each.tokens for each in records], 4) or 0.0}


def _rate(records: list[Recorded], exit_layer: int, drafts: int) -> float:
    counts = [step for each in records for step in simulate(each, exit_layer, drafts)]
    return sum(step.accepted for step in counts) / max(1, sum(step.drafted for step in counts))


def rows_of(text: Text, found: Mapping[tuple[str, int], Figures]) -> list[Row]:
    """A row per figure and arm, means over seeds, every seed named."""
    arms, seeds = list(dict.fromkeys(arm for arm, _ in found)), sorted({seed for _, seed in found})
    names = list(found[arms[0], seeds[0]])
    return [_compared(text, name, arm, [(found[arm, s][name], found["baseline", s][name]) for s in seeds])
            for name in names for arm in arms]  # fmt: skip


def _compared(text: Text, name: str, arm: str, pairs: list[tuple[float, float]]) -> Row:
    ours, peer = (statistics.mean(values) for values in zip(*pairs, strict=True))
    goal = GOALS.get((text, arm, name))
    if name == "CE E8" and arm != "baseline":
        goal = Goal(most=peer + LAST_CE)
    lower, higher = (ours, peer) if name.startswith("CE") else (peer, ours)
    return {
        **_row(f"{'Python' if text == 'python' else 'SNIPS'}, {arm}: {name}"), "ours": round(ours, 3),
        "peer": round(peer, 3), "ratio": round(higher / lower, 2) if lower else None,
        "unit": "nats per byte" if name.startswith("CE") else "share",
        "spread": " ".join(f"{value:.3f}" for value, _ in pairs),
        "goal": None if goal is None else f"{goal.said()}: {'holds' if goal.holds(ours, peer) else 'missed'}",
    }  # fmt: skip


def _row(what: str) -> Row:
    return {"what": what, "ours": None, "peer": None, "peer_name": "baseline, same seeds", "unit": "", "ratio": None,
            "spread": None, "goal": None}  # fmt: skip
