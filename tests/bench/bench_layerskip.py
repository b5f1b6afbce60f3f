"""Decoding strategies, c(n) and the skinny kernel, beside transformers in the same run.

    ./tenfold bench layerskip [--quick]

Models are those of preset `trl` (`layerskip_models`): Python's standard library, whose greedy text loops for about half
of the prompts (rows as they come, and of those alone), and SNIPS, whose text doesn't. They are trained at the first
run, a minute and a half each, and kept. Times are CPU times of one thread, strategies taking turns; medians over
rounds, means over prompts.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from shared.data.builtin import shipped
from shared.jobs.catalog.layerskip import BenchParams, BenchResult, TuneParams, TuneResult
from shared.jobs.local import LocalContext
from shared.metrics.text import distinct_ngrams
from shared.models.llama import Llama, LlamaConfig, initialise
from shared.models.llama_checkpoint import load_llama
from shared.models.llama_decoder import LlamaDecoder
from shared.models.silu import ffn_width
from shared.models.skinny_gemm import compiled as compiled_kernel
from tests.bench import layerskip_models
from workers.layerskip.answers import Answer, Stopping
from workers.layerskip.costs import measure
from workers.layerskip.decoding import Decoding
from workers.layerskip.jobs import bench, tune
from workers.layerskip.warping import Sampling

NEWLINE = 10
LOOPS = 0.2
"""Share of different 4-grams below which a text is called looping."""
APART = 8_000  # bytes between prompts
C_GOALS = {3: 1.5, 5: 1.8, 7: 2.2}  # at d = 2048
STOCK = {3: 3.0, 5: 3.4, 7: 4.0}
Row = dict[str, Any]


def rows(quick: bool = False) -> list[Row]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # transformers' own
        found = [*_python_rows(Path(folder), quick), *_snips_rows(Path(folder), quick), *_cost_rows(quick)]
    torch.set_num_threads(before)
    return found


def _python_rows(folder: Path, quick: bool) -> list[Row]:
    """Held-out prompts as they come, whose text loops in part, and prompts whose text loops."""
    model = layerskip_models.trained("python", "trl", steps=20 if quick else 400)
    count, new = (2, 16) if quick else (8, 128)
    given = {"model": model.ref, "prompts": "builtin:stdlib-valid", "prompt_format": "lm", "prompt_tokens": 64,
             "num_samples": count, "max_new_tokens": new}  # fmt: skip
    looping = {"model": model.ref, "prompts": looping_prompts(model.folder, count, new), "max_new_tokens": new}
    return [
        *_strategies(folder / "python", "Python text as it comes", given, None, quick, compiled=False),
        *_strategies(folder / "loops", "Python text that loops", looping, 2.5, quick),
    ]


def looping_prompts(model: Path, count: int, new: int) -> list[list[int]]:
    """The first pieces of 64 held-out bytes whose plain continuation repeats itself; acceptance isn't looked at."""
    held_out = shipped("stdlib-valid", layerskip_models.KEPT / "builtin")
    assert held_out is not None
    data = held_out.read_bytes()
    decoder = LlamaDecoder(load_llama(model), compiled_kernel(layerskip_models.KEPT / "kernels"))
    decoding, found = Decoding(decoder, Sampling(), 64 + new), list[list[int]]()
    for start in range(0, len(data) - 64, APART):
        answer = decoding.plain(Answer(list(data[start : start + 64]), new, Stopping(new)), torch.Generator())
        if (distinct_ngrams([answer.emitted], 4) or 0.0) < LOOPS:
            found.append(list(answer.prompt))
        if len(found) == count:
            break
    return found


def _snips_rows(folder: Path, quick: bool) -> list[Row]:
    if layerskip_models.real_folder() is None:
        return [_skipped("SNIPS, does not loop", "skipped: no real data, set TENFOLD_REAL_DATA")]
    model = layerskip_models.trained("snips", "trl", steps=20 if quick else 400).ref
    given = {"model": model, "prompts": layerskip_models.snips_prompts(2 if quick else 12),
             "stop_token_ids": [NEWLINE], "max_new_tokens": 16 if quick else 200}  # fmt: skip
    return _strategies(folder / "snips", "SNIPS, does not loop", given, 1.2, quick)


# Strategies -----------------------------------------------------------------------------------------------------------


def _strategies(
    folder: Path, title: str, given: dict[str, Any], goal: float | None, quick: bool, compiled: bool = True
) -> list[Row]:
    tuned = _tuned(folder / "tune", given, quick)
    best = tuned.best[0] if not tuned.pays else None
    place = (tuned.exit_layer or (best.exit_layer if best else 1), tuned.num_speculations or 4)
    params = BenchParams(
        **given,
        exit_layers=[place[0]],
        speculations=[place[1]],
        rounds=1 if quick else 5,
        compiled=compiled and not quick,
    )
    ctx = LocalContext(folder / "bench", cache=layerskip_models.KEPT)
    result = bench(params, ctx)
    ctx.close()
    said = f"{title} (distinct 4-grams {result.distinct_4grams or 0:.2f}): tuning says {tuned.verdict}"
    measured, predicted = tuned.confirmed_speedup, tuned.predicted_speedup
    found = [{**_skipped(said, "layerskip.tune"), "ours": _rounded(measured), "peer": _rounded(predicted),
              "unit": "× plain", "ratio": _ratio(measured, predicted)}]  # fmt: skip
    return found + _table(title, result, place, goal)


def _tuned(folder: Path, given: dict[str, Any], quick: bool) -> TuneResult:
    ctx = LocalContext(folder, cache=layerskip_models.KEPT)
    result = tune(TuneParams(**given, speculations=[1, 2, 4, 6, 8, 12, 16], repeats=1 if quick else 3), ctx)
    ctx.close()
    assert result.counts_equal, "simulated counts differ from real ones"
    return result


def _table(title: str, result: BenchResult, place: tuple[int, int], goal: float | None) -> list[Row]:
    by_name = {row.strategy: row for row in result.rows}
    plain, ours = by_name["autoregressive"], by_name["self_speculative"]
    theirs, assisted = by_name["transformers generate"], by_name["transformers assistant_early_exit"]
    at = f"E{place[0]} K{place[1]}, rate {ours.acceptance_micro or 0:.2f}"
    equal = f"{ours.equal_outputs} of {result.prompts} outputs equal to plain"
    found = [
        _row(f"{title}: plain loop", plain, theirs, "transformers generate()", 1 / 0.6),
        _row(f"{title}: self-speculative {at}, {equal}", ours, assisted, "transformers assistant_early_exit, same E, K",
             1 / 0.45),
        _row(f"{title}: self-speculative {at}", ours, plain, "our plain loop", goal),
        _row(f"{title}: early exit E{place[0]}", by_name["early_exit"], plain, "our plain loop", None),
    ]  # fmt: skip
    if "compiled autoregressive" in by_name:
        pair = by_name["compiled autoregressive"], by_name["compiled self_speculative"]
        found.append(
            _row(f"{title}: compiled self-speculative {at}", pair[1], pair[0], "our compiled plain loop", None)
        )
        found.append(_row(f"{title}: compiled plain loop", pair[0], plain, "our eager plain loop", None))
    for by, predicted in (("", ours.predicted_speedup), (" and the prompt's pass", ours.predicted_with_prompt)):
        found.append({
            **_skipped(f"{title}: measured speed-up against the formula with measured c, h{by}", "formula"),
            "ours": _rounded(ours.speedup), "peer": _rounded(predicted), "unit": "× plain",
            "ratio": _ratio(ours.speedup, predicted), "goal": "0.9–1.1",
        })  # fmt: skip
    return found


def _row(what: str, ours: Any, peer: Any, peer_name: str, goal: float | None) -> Row:
    spread = ", ".join(
        f"{name} {'–'.join(f'{value:.3f}' for value in row.spread_ms)}"
        for name, row in (("ours", ours), ("peer", peer))
    )
    return {
        "what": what, "ours": _rounded(ours.time_per_token_ms), "peer": _rounded(peer.time_per_token_ms),
        "peer_name": peer_name, "unit": "CPU ms/token", "ratio": _ratio(peer.time_per_token_ms, ours.time_per_token_ms),
        "spread": spread, "goal": None if goal is None else round(goal, 2),
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _ratio(a: float | None, b: float | None) -> float | None:
    return round(a / b, 3) if a and b else None


def _skipped(what: str, why: str) -> Row:
    return {"what": what, "ours": None, "peer": None, "peer_name": why, "unit": "", "ratio": None, "spread": None,
            "goal": None}  # fmt: skip


# c(n) -----------------------------------------------------------------------------------------------------------------


def _cost_rows(quick: bool) -> list[Row]:
    """c(n) with the skinny kernel and without, random weights: what a pass costs doesn't depend on them."""
    kernel = compiled_kernel(layerskip_models.KEPT / "kernels")
    if kernel is None:
        return [_skipped("c(n) with the skinny kernel", "skipped: no C++ compiler, the plain path runs")]
    return [row for d in ((128,) if quick else (512, 1024, 2048)) for row in _width_rows(d, kernel, quick)]


def _width_rows(d: int, kernel: Any, quick: bool) -> list[Row]:
    layers = 2 if d >= 1024 else 4
    model = Llama(LlamaConfig(256, d, ffn_width(d, 8), layers, d // 64, d // 64, 64))
    initialise(model, 0)
    rounds = 3 if quick else 9
    ours, plain = (measure(LlamaDecoder(model, each), 128, rounds=rounds) for each in (kernel, None))
    found = []
    for n in (3, 5, 7):
        mine, stock = ours.model.c[n], plain.model.c[n]
        ms = 1000 * ours.layer_s * mine, 1000 * plain.layer_s * stock
        found.append({
            "what": f"c({n}) at d = {d}: {ms[0]:.2f} ms a layer, plain {ms[1]:.2f} ms", "ours": round(mine, 3),
            "peer": round(stock, 3), "peer_name": "the plain product", "unit": "× one token",
            "ratio": round(stock / mine, 2),
            "spread": f"n = 1: {1e3 * ours.layer_s:.2f} and {1e3 * plain.layer_s:.2f} ms",
            "goal": f"c ≤ {C_GOALS[n]} (stock {STOCK[n]})" if d == 2048 else None,
        })  # fmt: skip
    return found


if __name__ == "__main__":
    print(json.dumps(rows("--quick" in sys.argv), indent=1, ensure_ascii=False))
