"""The SwiGLU core as C++ on the CPU: forward and backward one pass over memory each, float32 inside, one rounding.

`kernel` gives it, compiled once per machine (`native`), or None without a compiler; `native_swiglu` is the entry point.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.models import native
from shared.models.silu import once_rounded_backward

SOURCE = Path(__file__).with_name("swiglu_core.cpp")
TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class SwigluCore:
    """The loaded kernel."""

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        pointer, number, flag = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
        self._ahead: dict[torch.dtype, Any] = {}
        self._back: dict[torch.dtype, Any] = {}
        for dtype, name in TYPES.items():
            for calls, direction, tensors in ((self._ahead, "forward", 3), (self._back, "backward", 5)):
                calls[dtype] = call = getattr(loaded, f"{direction}_{name}")
                call.argtypes, call.restype = [*[pointer] * tensors, *[number] * 4, flag], None

    def forward(self, g: Tensor, u: Tensor) -> Tensor:
        """f(g)·u, contiguous."""
        out = torch.empty_like(g, memory_format=torch.contiguous_format)
        g, u, shape = _rows(g, u)
        self._ahead[g.dtype](g.data_ptr(), u.data_ptr(), out.data_ptr(), *shape, torch.get_num_threads())
        return out

    def backward(self, g: Tensor, u: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """(dg, du), contiguous and fresh."""
        dg, du = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (g, u))
        grad, (g, u, shape) = grad.contiguous(), _rows(g, u)
        self._back[g.dtype](
            g.data_ptr(), u.data_ptr(), grad.data_ptr(), dg.data_ptr(), du.data_ptr(), *shape, torch.get_num_threads()
        )
        return dg, du


def _rows(g: Tensor, u: Tensor) -> tuple[Tensor, Tensor, tuple[int, int, int, int]]:
    """g, u and (rows, width, strides of a row): views of one product are taken as they lie."""
    if g.is_contiguous() and u.is_contiguous():
        threads = min(torch.get_num_threads(), g.numel())
        if threads < 2 or g.numel() % threads:  # one row, unless threads share it
            return g, u, (1, g.numel(), 0, 0)
        width = g.numel() // threads
        return g, u, (threads, width, width, width)
    width = g.shape[-1] if g.dim() else 1
    g, u = (x if x.dim() == 2 and x.stride(1) == 1 else _flat(x, width) for x in (g, u))
    return g, u, (len(g), width, g.stride(0), u.stride(0))


def _flat(x: Tensor, width: int) -> Tensor:
    flat = x.reshape(-1, width)
    return flat if width == 1 or flat.stride(1) == 1 else flat.contiguous()


@cache
def kernel() -> SwigluCore | None:
    """The core of this machine; None without a compiler."""
    library = native.compiled(SOURCE, native.own_folder())
    return None if library is None else SwigluCore(library)


def takes(g: Tensor, u: Tensor) -> bool:
    """Whether the core can: one of its types, on the CPU."""
    return g.dtype in TYPES and g.dtype == u.dtype and g.is_cpu and u.is_cpu


def native_swiglu(g: Tensor, u: Tensor) -> Tensor:
    """f(g)·u; saves g and u for backward. Raises RuntimeError where it can't run."""
    core = kernel()
    if core is None or not takes(g, u):
        raise RuntimeError("impl native needs a C++ compiler, and float32 or bfloat16 on the CPU; use eager or compile")
    if torch.is_grad_enabled() and (g.requires_grad or u.requires_grad):
        fused: Tensor = _NativeSwiglu.apply(g, u)  # type: ignore[no-untyped-call]
        return fused
    return core.forward(g, u)


class _NativeSwiglu(torch.autograd.Function):
    """Saves g and u and overwrites nothing; a second derivative goes through the plain formulas."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(g, u)
        core = kernel()
        assert core is not None
        return core.forward(g, u)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        g, u = ctx.saved_tensors
        core = kernel()
        assert core is not None
        if torch.is_grad_enabled() and (g.requires_grad or u.requires_grad or grads[0].requires_grad):
            return once_rounded_backward(g, u, grads[0])
        return core.backward(g, u, grads[0])
