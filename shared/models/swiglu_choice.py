"""Which implementation of the SwiGLU core is fastest here: measured once per shape, type and whether it is trained.

The choice is kept in the process, so that nothing in a result may depend on it beyond rounding: jobs whose results must
be equal bit for bit name an implementation. `compile` asks for a C++ compiler (CUDA: Triton).
"""

import shutil
import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from shared.models.silu import Impl, RecomputedSwiglu, Save, eager_swiglu, once_rounded, once_rounded_backward

SEEN_BEFORE_COMPILING = 3
"""Compilation takes seconds: a shape that comes only once or twice isn't worth it."""
REPETITIONS = 9
MARGIN = 0.97
"""A contender must be this much faster than eager, or noise would decide."""


class Case(NamedTuple):
    """What a choice is made for."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str
    trained: bool


_seen: dict[Case, int] = {}
_chosen: dict[Case, Impl] = {}


def chosen(g: Tensor, u: Tensor) -> Impl:
    """The implementation for this shape: eager until it has been seen three times, then the fastest measured."""
    trained = torch.is_grad_enabled() and (g.requires_grad or u.requires_grad)
    case = Case(tuple(g.shape), g.dtype, g.device.type, trained)
    if case in _chosen:
        return _chosen[case]
    _seen[case] = _seen.get(case, 0) + 1
    if _seen[case] < SEEN_BEFORE_COMPILING or not g.numel():
        return "eager"
    _chosen[case] = fastest(case)
    return _chosen[case]


def available(device: str) -> list[Impl]:
    """What can run on a device."""
    found: list[Impl] = ["eager"]
    if device == "cpu" and shutil.which("g++"):
        found.append("compile")
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
    runs = {impl: _timed_run(impl, case) for impl in available(case.device)}
    times: dict[Impl, list[float]] = {impl: [] for impl in runs}
    for run in runs.values():
        run()  # compiles
    for _ in range(REPETITIONS):
        for impl, run in runs.items():
            times[impl].append(run())
    medians = {impl: statistics.median(taken) for impl, taken in times.items()}
    best = min(medians, key=lambda impl: medians[impl])
    return best if medians[best] < MARGIN * medians["eager"] else "eager"


def _timed_run(impl: Impl, case: Case) -> Callable[[], float]:
    """Seconds of one pass: CPU time on the CPU, which others may share."""
    from shared.models.silu import swiglu

    g, u, grad = (torch.randn(case.shape, device=case.device).to(case.dtype) for _ in "gud")
    g.requires_grad_(case.trained)
    u.requires_grad_(case.trained)

    def run() -> float:
        start = _now(case.device)
        with torch.set_grad_enabled(case.trained):
            out = swiglu(g, u, impl)
            if case.trained:
                torch.autograd.grad(out, (g, u), grad)
        return _now(case.device) - start

    return run


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


# Compiled -------------------------------------------------------------------------------------------------------------


def compiled_swiglu(g: Tensor, u: Tensor, save: Save) -> Tensor:
    """f(g)·u through torch.compile: `recompute` saves g and u, `keep` what the compiler thinks best."""
    if save == "recompute" and torch.is_grad_enabled() and (g.requires_grad or u.requires_grad):
        fused: Tensor = _CompiledSwiglu.apply(g, u)  # type: ignore[no-untyped-call]
        return fused
    return _whole(g, u)


class _CompiledSwiglu(torch.autograd.Function):
    """Forward and backward are one compiled loop each; a second derivative goes through the plain formulas."""

    @staticmethod
    def forward(ctx: "torch.autograd.function.FunctionCtx", g: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(g, u)
        return _whole(g.detach(), u.detach())

    @staticmethod
    def backward(ctx: "torch.autograd.function.FunctionCtx", *grads: Tensor) -> tuple[Tensor, Tensor]:
        g, u = ctx.saved_tensors  # type: ignore[attr-defined]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (g, u, grads[0])):
            return once_rounded_backward(g, u, grads[0])
        with torch.no_grad():
            if all(tensor.is_contiguous() for tensor in (g, u, grads[0])):
                dg, du = _backward()(g.detach().view(-1), u.detach().view(-1), grads[0].view(-1))
                return dg.view(g.shape), du.view(u.shape)
            return _backward()(g.detach(), u.detach(), grads[0])


def _whole(g: Tensor, u: Tensor) -> Tensor:
    """Contiguous tensors as one row of elements: one loop serves every shape, compiled once per type."""
    if g.is_contiguous() and u.is_contiguous():
        return _forward()(g.view(-1), u.view(-1)).view(g.shape)
    return _forward()(g, u)


@cache
def _forward() -> Callable[[Tensor, Tensor], Tensor]:
    return torch.compile(once_rounded, dynamic=True)


@cache
def _backward() -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    return torch.compile(once_rounded_backward, dynamic=True)


__all__ = ["Case", "RecomputedSwiglu", "available", "chosen", "compiled_swiglu", "eager_swiglu", "fastest"]
