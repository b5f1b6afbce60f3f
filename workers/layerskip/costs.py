"""Measuring c(n), h and c_h(n) with the loop's own operations, n taking turns. Medians of CPU time (CUDA: wall)."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from shared.jobs.catalog.layerskip import Costs
from shared.models.llama_decoder import LlamaDecoder
from workers.layerskip.answers import Answer, Stopping
from workers.layerskip.decoding import Decoding, Draft, Turn
from workers.layerskip.policies import Plan, Static
from workers.layerskip.theory import CostModel
from workers.layerskip.warping import Sampling

ROWS = (1, 2, 3, 5, 7, 9)
ROUNDS = 45


class Measured(NamedTuple):
    """Costs in seconds of one layer and one head, and as the formula takes them."""

    layer_s: float
    model: CostModel

    @property
    def result(self) -> Costs:
        """As results show them."""
        c, c_head = (
            {str(n): round(value, 4) for n, value in known.items()} for known in (self.model.c, self.model.c_head)
        )
        return Costs(layer_us=1e6 * self.layer_s, c=c, h=self.model.h, c_head=c_head)


def now(decoder: LlamaDecoder) -> float:
    """The clock that decides: CPU time of this process, which others' work doesn't change; on CUDA wall time."""
    if decoder.device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


@torch.inference_mode()
def measure(decoder: LlamaDecoder, cached: int, rows: Sequence[int] = ROWS, rounds: int = ROUNDS) -> Measured:
    """At so many cached tokens."""
    layers = decoder.config.layers
    cached = min(cached, decoder.config.context - max(rows))
    cache = decoder.cache(cached + max(rows))
    ids = {n: torch.zeros(n, dtype=torch.int64, device=decoder.device) for n in rows}

    def through(n: int) -> Callable[[], object]:
        return lambda: decoder.run(decoder.embed(ids[n]), cache, 0, layers, cached)

    def heads(n: int) -> Callable[[], object]:
        """What verification does with n rows."""
        x = decoder.embed(ids[n])
        return lambda: decoder.head(x[-n:]).argmax(-1).tolist()

    decoding = Decoding(decoder, Sampling(), 2)
    turn = Turn(Answer([0], 1, Stopping(1)), [0], 0, Plan(1, 1), Static(1, 1), torch.Generator())

    def drafted() -> object:
        """What the loop does for one draft beside its layers: head, likeliest, fetch, embed."""
        return decoding.guess(turn, Draft([], []), 1)

    passes = _medians({n: through(n) for n in rows}, decoder, rounds)
    said = _medians({**{n: heads(n) for n in rows}, 1: drafted}, decoder, rounds)
    layer = passes[1] / layers
    c = {n: passes[n] / passes[1] for n in rows}
    return Measured(layer, CostModel(c, said[1] / layer, {n: said[n] / said[1] for n in rows}))


def _medians(runs: dict[int, Callable[[], object]], decoder: LlamaDecoder, rounds: int) -> dict[int, float]:
    """Seconds of each. Once a turn, as the loop meets them: run again and again, the same pass is faster."""
    taken: dict[int, list[float]] = {n: [] for n in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for n, run in runs.items():
            start = now(decoder)
            run()
            taken[n].append(now(decoder) - start)
    return {n: statistics.median(values) for n, values in taken.items()}
