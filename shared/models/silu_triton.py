"""The SwiGLU core as two Triton kernels, forward and backward, for CUDA.

A flat grid over elements, not a program per row: rows of 11,008 leave no lanes idle. Arithmetic in float32, one
rounding. Gate and up may be the two halves of one product's output: strides are taken as they are, nothing is copied,
and backward writes dg | du side by side into one buffer, so that one product follows. Saved tensors are never
overwritten: `retain_graph`, second derivatives and shared activations stay right. Offsets have 64 bits.
"""

from typing import Any

import torch
from torch import Tensor

from shared.models.silu import once_rounded_backward

BLOCK = 2048  # elements of a program: 128-bit loads by 128 threads

try:
    import triton
    import triton.language as tl
except ImportError:  # a machine without CUDA
    triton = None


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _forward_kernel(g, u, o, n, width, g_stride, u_stride, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < n
        row, column = at // width, at % width
        gate = tl.load(g + row * g_stride + column, mask=inside).to(tl.float32)
        up = tl.load(u + row * u_stride + column, mask=inside).to(tl.float32)
        value = gate * tl.sigmoid(gate)
        tl.store(o + at, (value * up).to(o.dtype.element_ty), mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def _backward_kernel(g, u, d, both, n, width, g_stride, u_stride, d_stride, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < n
        row, column = at // width, at % width
        gate = tl.load(g + row * g_stride + column, mask=inside).to(tl.float32)
        up = tl.load(u + row * u_stride + column, mask=inside).to(tl.float32)
        grad = tl.load(d + row * d_stride + column, mask=inside).to(tl.float32)
        s = tl.sigmoid(gate)
        value = gate * s
        slope = value + s * (1.0 - value)
        to = both + row * 2 * width + column
        tl.store(to, (grad * up * slope).to(both.dtype.element_ty), mask=inside)
        tl.store(to + width, (grad * value).to(both.dtype.element_ty), mask=inside)


def triton_swiglu(g: Tensor, u: Tensor) -> Tensor:
    """f(g)·u on CUDA. Raises RuntimeError where Triton or the GPU is missing."""
    if triton is None or g.device.type != "cuda":
        raise RuntimeError("impl triton needs the package triton and tensors on CUDA; use eager or compile")
    fused: Tensor = _TritonSwiglu.apply(g, u)  # type: ignore[no-untyped-call]
    return fused


class _TritonSwiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(g, u)
        rows_g, rows_u = _rows(g), _rows(u)
        out = torch.empty(rows_g.shape, dtype=g.dtype, device=g.device)
        if out.numel():
            _forward_kernel[_grid(out)](
                rows_g, rows_u, out, out.numel(), out.shape[1], rows_g.stride(0), rows_u.stride(0), BLOCK=BLOCK
            )
        return out.view(g.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        g, u = ctx.saved_tensors
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (g, u, grads[0])):
            return once_rounded_backward(g, u, grads[0])
        rows_g, rows_u, rows_d = _rows(g), _rows(u), _rows(grads[0])
        rows, width = rows_g.shape
        both = torch.empty(rows, 2 * width, dtype=g.dtype, device=g.device)
        if both.numel():
            _backward_kernel[_grid(rows_g)](
                rows_g, rows_u, rows_d, both, rows * width, width, rows_g.stride(0), rows_u.stride(0),
                rows_d.stride(0), BLOCK=BLOCK,
            )  # fmt: skip
        return both[:, :width].view(g.shape), both[:, width:].view(u.shape)


def _rows(x: Tensor) -> Tensor:
    """(rows, width) with neighbours in memory along a row; a copy only where they aren't."""
    rows = x.reshape(-1, x.shape[-1]) if x.dim() else x.reshape(1, 1)
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _grid(x: Tensor) -> tuple[int]:
    return ((x.numel() + BLOCK - 1) // BLOCK,)
