"""Products of a few rows with a matrix, x (n, in) · Wᵀ, by a kernel compiled once per machine.

Stock float32 GEMMs take three times as long for three rows as for one, although the weights are read once: a
verification pass then costs what speculation saves. `skinny_gemm.cpp` reads the weights once for all rows, divides rows
by their rms where a norm comes before, and attends with few rows to a cache; a row's bits don't depend on the others.
Without a compiler `compiled` gives None and says why, and `torch` computes: the kernel's oracle.
"""

import ctypes
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from shared.models import native

SOURCE = Path(__file__).with_name("skinny_gemm.cpp")


class SkinnyGemm:
    """The loaded kernel."""

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        call = loaded.skinny_product
        pointer, number, flag = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
        call.argtypes = [pointer, pointer, pointer, number, number, number, number, number, flag, ctypes.c_float, flag]
        call.restype = None
        attend = loaded.attend
        attend.argtypes, attend.restype = [*[pointer] * 4, *[number] * 7, flag], None
        loaded.panel_width.restype = loaded.lanes.restype = number
        self._call, self._attend = call, attend
        self.panel_width: int = loaded.panel_width()
        self.lanes: int = loaded.lanes()

    def pack(self, weight: Tensor) -> Tensor:
        """W (out, in) as panels (out / width rounded up, in, width), the last one filled up with zeros."""
        out, width = weight.shape[0], self.panel_width
        filled = torch.nn.functional.pad(weight, (0, 0, 0, -out % width))
        return filled.view(-1, width, weight.shape[1]).transpose(1, 2).contiguous()

    def product(
        self, x: Tensor, panels: Tensor, out: int, onto: Tensor | None = None, eps: float | None = None
    ) -> Tensor:
        """x (n, in) · Wᵀ, (n, out), for packed W; added in place to `onto`. Rows of x may be strided.

        With `eps` each row of x is divided by its rms, √(mean x² + eps), first.
        """
        y = x.new_empty(x.shape[0], out) if onto is None else onto
        self._call(
            panels.data_ptr(), x.data_ptr(), y.data_ptr(), x.shape[0], panels.shape[1], out,
            x.stride(0), y.stride(0), onto is not None, -1.0 if eps is None else eps, torch.get_num_threads(),
        )  # fmt: skip
        return y

    def attend(self, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """Causal attention of q (n, heads, width), scaled, at positions start … start + n − 1 → (n, heads · width).

        k, v (kv_heads, positions, width) are contiguous; width is a multiple of `lanes`.
        """
        rows, heads, width = q.shape
        out = q.new_empty(rows, heads * width)
        self._attend(
            q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr(), rows, heads, k.shape[0], width, k.shape[1],
            start, q.stride(0), torch.get_num_threads(),
        )  # fmt: skip
        return out


def compiled(cache: Path, say: native.Say = lambda text: None) -> SkinnyGemm | None:
    """The kernel, compiled now or before; None where that isn't possible, and `say` is told why."""
    library = native.compiled(SOURCE, cache, lambda why: say(f"verification rows take the plain product: {why}"))
    return None if library is None else _loaded(library)


@lru_cache(maxsize=4)
def _loaded(library: Path) -> SkinnyGemm:
    return SkinnyGemm(library)
