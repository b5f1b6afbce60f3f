"""The SwiGLU core: ours (`auto`), eager, compiled and Liger in one run, taking turns.

    ./tenfold bench silu [--quick]

CPU time of one thread, medians; each row's peer is the better of eager and compiled. On CUDA rows of Triton and Liger
join; without a GPU they say `skipped`.
"""

import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from shared.models.silu import swiglu
from shared.models.swiglu_choice import SEEN_BEFORE_MEASURING, available, has_triton

SHAPES = ((1, 688), (64, 688), (64, 2752), (2048, 688), (2048, 2752))
DTYPES = (torch.float32, torch.bfloat16)
GOAL = 0.97  # of the better peer: 3 % is the noise that is allowed


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch.compile loads warns
        table = [
            row for shape in (SHAPES[:2] if quick else SHAPES) for dtype in (DTYPES[:1] if quick else DTYPES)
            for trained in (False, True) for row in [_row(shape, dtype, trained, 5 if quick else 21, "cpu")]
        ]  # fmt: skip
        table += _gpu_rows(quick)
    torch.set_num_threads(before)
    return table


def _gpu_rows(quick: bool) -> list[dict[str, Any]]:
    if not has_triton():
        why = "skipped: no CUDA device, or the package triton is missing"
        return [
            _skipped("SwiGLU core on CUDA against compiled", why),
            _skipped("SwiGLU core on CUDA against Liger", why),
        ]
    table = [
        _row(shape, torch.bfloat16, trained, 21, "cuda") for shape in ((64, 11008), (8192, 11008))
        for trained in (False, True)
    ]  # fmt: skip
    if importlib.util.find_spec("liger_kernel") is None:
        table.append(_skipped("SwiGLU core on CUDA against Liger", "skipped: the package liger-kernel is missing"))
    return table


def _skipped(what: str, why: str) -> dict[str, Any]:
    return {"what": what, "ours": None, "peer": None, "peer_name": why, "unit": "ms", "ratio": None, "spread": None,
            "goal": None}  # fmt: skip


def _row(shape: tuple[int, int], dtype: torch.dtype, trained: bool, rounds: int, device: str) -> dict[str, Any]:
    torch.manual_seed(0)
    g, u, grad = (torch.randn(shape, device=device).to(dtype) for _ in "gud")
    contenders: dict[str, Callable[[], Any]] = {
        "ours": _run(lambda a, b: swiglu(a, b), g, u, grad, trained),
        "eager": _run(lambda a, b: F.silu(a) * b, g, u, grad, trained),
    }
    if "compile" in available(device):
        contenders["compiled"] = _run(_peer_compiled(), g, u, grad, trained)
    times = interleaved(contenders, rounds, device)
    best = min((name for name in times if name != "ours"), key=lambda name: statistics.median(times[name]))
    error = _error(g, u)
    what = f"{shape[0]} × {shape[1]} {str(dtype)[6:]}, {'forward + backward' if trained else 'forward'}"
    ours, peer = statistics.median(times["ours"]), statistics.median(times[best])
    return {
        "what": f"{what}, max error {error:.1e}", "ours": round(ours, 4), "peer": round(peer, 4),
        "peer_name": f"{best}, the better of {', '.join(name for name in times if name != 'ours')}", "unit": "ms",
        "ratio": round(peer / ours, 3), "spread": f"ours {min(times['ours']):.4f}–{max(times['ours']):.4f}",
        "goal": GOAL,
    }  # fmt: skip


_compiled: list[Callable[..., Any]] = []


def _peer_compiled() -> Callable[..., Any]:
    """torch.compile of the two operations as a user writes them."""
    if not _compiled:
        _compiled.append(torch.compile(lambda a, b: F.silu(a) * b, dynamic=True))
    return _compiled[0]


def _run(core: Callable[..., Any], g: Any, u: Any, grad: Any, trained: bool) -> Callable[[], Any]:
    a, b = (x.detach().requires_grad_(trained) for x in (g, u))

    def run() -> Any:
        with torch.set_grad_enabled(trained):
            out = core(a, b)
            return torch.autograd.grad(out, (a, b), grad) if trained else out

    return run


def interleaved(contenders: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, list[float]]:
    """Milliseconds of each round, many runs a round where one is short."""
    for run in contenders.values():
        for _ in range(SEEN_BEFORE_MEASURING + 1):
            run()
    start = _now(device)
    contenders["eager"]()
    repeat = max(1, int(0.02 / max(_now(device) - start, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders.items())
    for number in range(rounds):
        turn = number % len(order)  # nobody always follows the same other
        for name, run in [*order[turn:], *order[:turn]]:
            start = _now(device)
            for _ in range(repeat):
                run()
            times[name].append(1000 * (_now(device) - start) / repeat)
    return times


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _error(g: Any, u: Any) -> float:
    with torch.no_grad():
        exact = F.silu(g.double()) * u.double()
        return float((swiglu(g, u).double() - exact).abs().max())
