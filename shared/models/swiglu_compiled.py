"""The SwiGLU core through torch.compile: on the CPU Inductor's C++, on CUDA its Triton."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from shared.models.silu import once_rounded, once_rounded_backward


def recomputing(g: Tensor, u: Tensor) -> Tensor:
    """f(g)·u; saves g and u alone, and may be differentiated twice."""
    if torch.is_grad_enabled() and (g.requires_grad or u.requires_grad):
        fused: Tensor = _CompiledSwiglu.apply(g, u)  # type: ignore[no-untyped-call]
        return fused
    return keeping(g, u)


def keeping(g: Tensor, u: Tensor) -> Tensor:
    """f(g)·u; saves what the compiler thinks best. Contiguous tensors are one row: one loop serves every shape."""
    if g.is_contiguous() and u.is_contiguous():
        return _forward()(g.view(-1), u.view(-1)).view(g.shape)
    return _forward()(g, u)


class _CompiledSwiglu(torch.autograd.Function):
    """Forward and backward are one compiled loop each; a second derivative goes through the plain formulas."""

    @staticmethod
    def forward(ctx: "torch.autograd.function.FunctionCtx", g: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(g, u)
        return keeping(g.detach(), u.detach())

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


@cache
def _forward() -> Callable[[Tensor, Tensor], Tensor]:
    return torch.compile(once_rounded, dynamic=True)


@cache
def _backward() -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    return torch.compile(once_rounded_backward, dynamic=True)
