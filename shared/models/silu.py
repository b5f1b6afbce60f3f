"""SiLU, x·σ(x), with its derivatives, and the elementwise core of SwiGLU, f(g)·u.

Elfwing et al. (arXiv 1702.03118) named it, Ramachandran et al. (1710.05941) gave it β, Shazeer (2002.05202) the gate.
`silu` and `swiglu` are the entry points: plain torch everywhere, C++ on the CPU where there is a compiler
(`swiglu_native`), a Triton kernel on CUDA (`silu_triton`). At ±∞ `silu` takes its limits, where torch's own gives NaN.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from shared.models.swiglu_choice import Core

_silu = torch._C._nn.silu  # what F.silu calls, without its way there
Impl = Literal["auto", "eager", "compile", "native", "triton"]
Save = Literal["recompute", "keep"]


def silu(x: Tensor, beta: float = 1.0) -> Tensor:
    """f_β(x) = x·σ(βx), differentiable any number of times; 0 at −∞, NaN stays NaN."""
    value: Tensor = _Silu.apply(x, beta)  # type: ignore[no-untyped-call]
    return value


def silu_derivative(x: Tensor, beta: float = 1.0) -> Tensor:
    """f_β′(x) = s + βx·s(1 − s) with s = σ(βx); 0 at −∞, 1 at +∞."""
    s, rest = torch.sigmoid(beta * x), torch.sigmoid(-beta * x)  # 1 − s without cancellation
    return s + _times(beta * x, s * rest)


def silu_second_derivative(x: Tensor, beta: float = 1.0) -> Tensor:
    """f_β″(x) = β·s(1 − s)(2 + βx(1 − 2s)); even, greatest at 0."""
    s, rest = torch.sigmoid(beta * x), torch.sigmoid(-beta * x)
    slope = s * rest
    return beta * (2 * slope + _times(beta * x * (rest - s), slope))


def silu_by_beta(x: Tensor, beta: float = 1.0) -> Tensor:
    """∂f_β/∂β = x²·σ(βx)(1 − σ(βx))."""
    return _times(x * x, torch.sigmoid(beta * x) * torch.sigmoid(-beta * x))


def _times(x: Tensor, factor: Tensor) -> Tensor:
    """x·factor, with 0 where factor has vanished: ∞·0 is 0 here."""
    return torch.where(factor == 0, torch.zeros_like(factor), x * factor)


class _Silu(torch.autograd.Function):
    """Saves x alone; its backward is made of differentiable operations, so it may be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.beta = beta
        return _value(x, beta)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        return (grads[0] * silu_derivative(wide, ctx.beta)).to(x.dtype), None


def _value(x: Tensor, beta: float) -> Tensor:
    """torch's own kernel where it is right (it computes halves in float32), the limit at −∞."""
    value = F.silu(x) if beta == 1.0 else x * torch.sigmoid(beta * x)
    return torch.where(torch.isneginf(x) if beta > 0 else torch.isinf(x), torch.zeros_like(x), value)


# SwiGLU ---------------------------------------------------------------------------------------------------------------

FEW = 2**11
"""On the CPU nothing beats torch's two operations on so few elements: what is around them costs more than they do."""


def swiglu(g: Tensor, u: Tensor, impl: Impl = "auto", save: Save = "recompute") -> Tensor:
    """f(g)·u elementwise: (…, d_ff), (…, d_ff) → (…, d_ff).

    `auto` takes the fastest of what can run here, measured once per shape (`swiglu_choice`); `eager` is torch's two
    operations, whose autograd saves three tensors; `compile`, `native` and `triton` compute in float32, round once, and
    save g and u alone (`compile` with `keep`: what the compiler likes).
    """
    few = impl == "auto" and g.numel() <= FEW and g.is_cpu  # then each check and call is felt
    if few and not torch.is_grad_enabled() and g.dim() == u.dim() and g.numel() == u.numel():
        return _silu(g).mul_(u)  # in place nothing is broadcast: another shape of as many elements is torch's error
    if g.shape != u.shape:
        raise ValueError(f"gate {tuple(g.shape)} and up {tuple(u.shape)} must have one shape")
    return eager_swiglu(g, u) if few else _core(impl, save)(g, u)


@cache
def _core(impl: Impl, save: Save) -> "Core":
    from shared.models.swiglu_choice import core

    return core(impl, save)


def eager_swiglu(g: Tensor, u: Tensor) -> Tensor:
    """Two operations; in place where nothing is differentiated, as in decoding, where launches dominate."""
    if torch.is_grad_enabled() and (g.requires_grad or u.requires_grad):
        return _silu(g) * u
    return _silu(g).mul_(u)


def once_rounded(g: Tensor, u: Tensor) -> Tensor:
    """f(g)·u in float32 (doubles stay doubles), rounded once to the storage type: what fused kernels compute.

    Of finite gates: a gate of −∞ gives NaN here as in torch; `silu` by itself takes limits.
    """
    if g.dtype in (torch.float16, torch.bfloat16):
        return (F.silu(g.float()) * u.float()).to(g.dtype)
    return F.silu(g) * u


def once_rounded_backward(g: Tensor, u: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """(dg, du): dg = do·u·f′(g), du = do·f(g), σ computed again from g."""
    wide = torch.float32 if g.dtype in (torch.float16, torch.bfloat16) else g.dtype
    g_, u_, grad_ = g.to(wide), u.to(wide), grad.to(wide)
    s = torch.sigmoid(g_)
    value = g_ * s
    return (grad_ * u_ * (s + value * (1 - s))).to(g.dtype), (grad_ * value).to(u.dtype)  # f′ = σ + f(1 − σ)


class RecomputedSwiglu(torch.autograd.Function):
    """The fused core by its plain formulas; the oracle of compiled and Triton forms. g and u are never overwritten."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(g, u)
        return once_rounded(g, u)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        g, u = ctx.saved_tensors
        return once_rounded_backward(g, u, grads[0])


def ffn_width(d: int, multiple: int, factor: float = 1.0) -> int:
    """d_ff of a gated block with the parameters of an ungated one of width 4d: ⌊factor·⌊2·4d/3⌋⌋, rounded up."""
    width = int(factor * int(2 * 4 * d / 3))
    return multiple * ((width + multiple - 1) // multiple)
