"""On CUDA: whether the compiled loop (CUDA graphs) is faster than the eager one, measured once per model and shape.

The answer is kept in the cache folder, so that later jobs on this machine neither measure nor differ. On the CPU the
eager loop is taken: compilation costs minutes there, and `layerskip.bench` shows what it would give.
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

from shared.models.llama_decoder import LlamaDecoder
from workers.layerskip.costs import now

ROUNDS = 9
CACHED = 64  # positions before the measured step


def takes_compiled(decoder: LlamaDecoder, digest: str, rows: int, cache: Path) -> bool:
    """Whether passes of up to `rows` tokens go through torch.compile; the decoder is then compiled."""
    if decoder.device.type != "cuda":
        return False
    path = (
        cache / "loops" / f"{digest[:32]}-{decoder.dtype}-{rows}-{torch.cuda.get_device_name()}.json".replace(" ", "_")
    )
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measured(decoder, rows)))
    eager, compiled = json.loads(path.read_text())
    if compiled < eager:
        decoder.compile(rows, "reduce-overhead")
    return bool(compiled < eager)


@torch.inference_mode()
def measured(decoder: LlamaDecoder, rows: int) -> tuple[float, float]:
    """Seconds of one token and one verification pass together: eager, compiled."""
    layers, positions = decoder.config.layers, CACHED + 2 * rows
    single, batch = decoder.cache(positions), decoder.cache(positions, 1)
    ids = [torch.zeros(n, dtype=torch.int64, device=decoder.device) for n in (1, rows)]

    def eager() -> None:
        for each in ids:
            decoder.run(decoder.embed(each), single, 0, layers, CACHED)

    def compiled() -> None:
        for each in ids:
            decoder.run_batch(decoder.embed(each[None]), batch, 0, layers, [CACHED])

    decoder.compile(rows, "reduce-overhead")
    return _median(eager, decoder), _median(compiled, decoder)


def _median(run: Callable[[], None], decoder: LlamaDecoder) -> float:
    for _ in range(3):
        run()
    taken = []
    for _ in range(ROUNDS):
        start = now(decoder)
        run()
        taken.append(now(decoder) - start)
    return statistics.median(taken)
