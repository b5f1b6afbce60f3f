"""GCG against DSN in the colour world, over models, suffix lengths and seeds: what docs/dsn.md quotes.

    python -m tests.bench.dsn_world [--models colours colours-2] [--lengths 8 6] [--seeds 5] [--alphas 1 10 100]

Every seed is one `dsn.evaluate` job: its own split, draws and suffixes. The seed is the unit of the sign test. Prints a
table in Markdown and how long it took.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from shared.jobs.catalog.dsn import EvaluateParams, EvaluateResult
from shared.jobs.local import LocalContext
from shared.metrics.verdicts import binomial_two_sided
from workers.dsn.jobs import evaluate

JUDGES = [
    {"name": "keyword", "type": "keyword"},
    {"name": "nli", "type": "nli", "model": "builtin:colours-nli"},
    {"name": "exact", "type": "exact"},
]


class Setting(NamedTuple):
    """One cell of the table."""

    model: str
    length: int
    alphas: tuple[float, ...] = (1.0, 10.0, 100.0)
    steps: int = 40


def params(setting: Setting, seed: int, **changes: Any) -> EvaluateParams:
    """The job of one seed."""
    given = {
        "model": f"allowed:{setting.model}", "behaviours": "builtin:colours", "judges": JUDGES, "seed": seed,
        "authorisation": {"owner": "us", "purpose": "bench", "ticket": "-", "expires": "2999-12-31"},
        "suffix_init": " ".join(["!"] * setting.length), "alpha": list(setting.alphas), "n_steps": setting.steps,
        "batch_size": 64, "topk": 48, "n_train": 8, "n_test": 96, "n_benign": 48, "test_steps": 20,
        "allow_non_ascii": True, "filter_candidates": False, "eval_max_new_tokens": 40,
        "defences": {"perplexity": None, "smoothllm": None, "erase_and_check": None},
    }  # fmt: skip
    return EvaluateParams.model_validate_json(json.dumps(given | changes))


def runs(setting: Setting, seeds: int) -> list[EvaluateResult]:
    """The card of every seed."""
    found = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            ctx = LocalContext(Path(folder))
            found.append(evaluate(params(setting, seed), ctx))
            ctx.close()
    return found


def rates(cards: list[EvaluateResult], arm: str, judge: str, split: str = "test") -> list[float]:
    return [card.asr[arm][split][judge].rate or 0.0 for card in cards]


def arm_names(setting: Setting) -> list[str]:
    several = len(setting.alphas) > 1
    return ["gcg", *(f"dsn@{alpha:g}" if several else "dsn" for alpha in setting.alphas)]


def table(setting: Setting, cards: list[EvaluateResult]) -> list[str]:
    """A Markdown row per arm."""
    lines = []
    for arm in ("no_suffix", "random_suffix", *arm_names(setting)):
        exact, keyword = rates(cards, arm, "exact"), rates(cards, arm, "keyword")
        spread = f"{statistics.mean(exact):.3f} ± {statistics.stdev(exact):.3f} [{min(exact):.3f}, {max(exact):.3f}]"
        cells = [setting.model, str(setting.length), arm, f"{statistics.mean(rates(cards, arm, 'exact', 'train')):.3f}",
                 spread, f"{statistics.mean(keyword):.3f}", *_against_gcg(cards, arm)]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _against_gcg(cards: list[EvaluateResult], arm: str) -> tuple[str, str]:
    """(seeds worse/better, sign p), and b/c pooled over seeds: only GCG / only DSN."""
    if not arm.startswith("dsn"):
        return "–", "–"
    gaps = [a - b for a, b in zip(rates(cards, arm, "exact"), rates(cards, "gcg", "exact"), strict=True)]
    worse, better = sum(gap < 0 for gap in gaps), sum(gap > 0 for gap in gaps)
    pairs = [pair for card in cards for pair in card.paired if pair.arm == arm]
    only = f"{sum(pair.only_gcg for pair in pairs)}/{sum(pair.only_dsn for pair in pairs)}"
    return f"{worse}/{better} ({binomial_two_sided(worse, better):.3f})", only


def main() -> None:
    parser = argparse.ArgumentParser(description="GCG against DSN in the colour world.")
    parser.add_argument("--models", nargs="+", default=["colours", "colours-2"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[8, 6])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--alphas", nargs="+", type=float, default=[1, 10, 100])
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| model | L | arm | train | test, exact: mean ± sd [min, max] | test, keyword | seeds worse/better (p) | b/c |"
    )
    print("|---|---|---|---|---|---|---|---|")
    start = time.process_time()
    for model in given.models:
        for length in given.lengths:
            setting = Setting(model, length, tuple(given.alphas))
            print("\n".join(table(setting, runs(setting, given.seeds))), flush=True)
    print(f"\n{time.process_time() - start:.0f} CPU-seconds")


if __name__ == "__main__":
    main()
