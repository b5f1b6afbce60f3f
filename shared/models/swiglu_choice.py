"""Which implementation of the SwiGLU core is fastest here: measured once per shape, type and whether it is trained.

The choice is kept in the process, so that nothing in a result may depend on it beyond rounding: jobs whose results must
be equal bit for bit name an implementation. `compile` and `native` ask for a C++ compiler (CUDA: Triton).
"""

import shutil
import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from shared.models import swiglu_compiled, swiglu_native
from shared.models.silu import Impl, Save, eager_swiglu
from shared.models.silu_triton import triton_swiglu

SEEN_BEFORE_MEASURING = 3
"""A shape that comes only once or twice isn't worth it."""
WORTH_COMPILING = 2**17
"""On the CPU torch.compile takes seconds, and fewer elements cost more to enter than it saves."""
REPETITIONS = 15
LEAST_S = 0.001  # of one measurement
MARGIN = 0.97
"""A contender must be this much faster than eager, or noise would decide."""
Core = Callable[[Tensor, Tensor], Tensor]


class Case(NamedTuple):
    """What a choice is made for."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str
    trained: bool


_seen: dict[Case, int] = {}
_known: dict[tuple[object, ...], Core] = {}


def auto(g: Tensor, u: Tensor) -> Tensor:
    """f(g)·u by the implementation for this shape: eager until it has come three times, then the fastest measured."""
    if torch.compiler.is_compiling():
        return eager_swiglu(g, u)  # whoever compiles around it fuses it
    trained = torch.is_grad_enabled() and (g.requires_grad or u.requires_grad)
    known = _known.get((g.shape, g.dtype, g.is_cuda, trained))
    return known(g, u) if known is not None else core(chosen(g, u), "recompute")(g, u)


def chosen(g: Tensor, u: Tensor) -> Impl:
    """What `auto` takes for this shape now."""
    trained = torch.is_grad_enabled() and (g.requires_grad or u.requires_grad)
    case = Case(tuple(g.shape), g.dtype, g.device.type, trained)
    _seen[case] = _seen.get(case, 0) + 1
    if _seen[case] < SEEN_BEFORE_MEASURING or not g.numel():
        return "eager"
    best = fastest(case)
    _known[g.shape, g.dtype, g.is_cuda, trained] = core(best, "recompute")
    return best


def core(impl: Impl, save: Save) -> Core:
    """An implementation as a function of g and u."""
    compiled = swiglu_compiled.recomputing if save == "recompute" else swiglu_compiled.keeping
    cores: dict[Impl, Core] = {
        "auto": auto, "eager": eager_swiglu, "compile": compiled, "native": swiglu_native.native_swiglu,
        "triton": triton_swiglu,
    }  # fmt: skip
    return cores[impl]


def available(device: str, dtype: torch.dtype = torch.float32) -> list[Impl]:
    """What can run on a device."""
    found: list[Impl] = ["eager"]
    if device == "cpu" and shutil.which("g++"):
        found.append("compile")
    if device == "cpu" and dtype in swiglu_native.TYPES and swiglu_native.kernel() is not None:
        found.append("native")
    if device == "cuda" and has_triton():
        found += ["compile", "triton"]
    return found


@cache
def has_triton() -> bool:
    """Whether Triton and a GPU are there."""
    import importlib.util

    return importlib.util.find_spec("triton") is not None and torch.cuda.is_available()


def fastest(case: Case) -> Impl:
    """Measured on random numbers, contenders taking turns."""
    few = case.device == "cpu" and torch.Size(case.shape).numel() < WORTH_COMPILING
    contenders = [impl for impl in available(case.device, case.dtype) if not (few and impl == "compile")]
    runs = {impl: _run(impl, case) for impl in contenders}
    repeats = {impl: _repeats(run, case.device) for impl, run in runs.items()}
    times: dict[Impl, list[float]] = {impl: [] for impl in runs}
    for _ in range(REPETITIONS):
        for impl, run in runs.items():
            start = _now(case.device)
            for _ in range(repeats[impl]):
                run()
            times[impl].append((_now(case.device) - start) / repeats[impl])
    medians = {impl: statistics.median(taken) for impl, taken in times.items()}
    best = min(medians, key=lambda impl: medians[impl])
    return best if medians[best] < MARGIN * medians["eager"] else "eager"


def _run(impl: Impl, case: Case) -> Callable[[], object]:
    """One pass."""
    g, u, grad = (torch.randn(case.shape, device=case.device).to(case.dtype) for _ in "gud")
    g.requires_grad_(case.trained)
    u.requires_grad_(case.trained)
    run = core(impl, "recompute")

    def once() -> object:
        with torch.set_grad_enabled(case.trained):
            out = run(g, u)
            return torch.autograd.grad(out, (g, u), grad) if case.trained else out

    return once


def _repeats(run: Callable[[], object], device: str) -> int:
    """How often it runs in one measurement; the first run compiles."""
    run()
    start = _now(device)
    run()
    return max(1, int(LEAST_S / max(_now(device) - start, 1e-6)))


def _now(device: str) -> float:
    """CPU time on the CPU, which others may share."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
