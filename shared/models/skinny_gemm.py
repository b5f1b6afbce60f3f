"""Products of a few rows with a matrix, x (n, in) · Wᵀ, by a kernel compiled once per machine.

Stock float32 GEMMs take three times as long for three rows as for one, although the weights are read once: a
verification pass then costs what speculation saves. `skinny_gemm.cpp` reads the weights once for all rows. Without a
compiler `compiled` gives None and says why, and `torch` computes: the kernel's oracle.
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
        call.argtypes = [pointer, pointer, pointer, number, number, number, number, number, flag, flag]
        call.restype = None
        loaded.panel_width.restype = number
        self._call = call
        self.panel_width: int = loaded.panel_width()

    def pack(self, weight: Tensor) -> Tensor:
        """W (out, in) as panels (out / width rounded up, in, width), the last one filled up with zeros."""
        out, width = weight.shape[0], self.panel_width
        filled = torch.nn.functional.pad(weight, (0, 0, 0, -out % width))
        return filled.view(-1, width, weight.shape[1]).transpose(1, 2).contiguous()

    def product(self, x: Tensor, panels: Tensor, out: int, onto: Tensor | None = None) -> Tensor:
        """x (n, in) · Wᵀ, (n, out), for packed W; added in place to `onto`. Rows of x may be strided."""
        y = x.new_empty(x.shape[0], out) if onto is None else onto
        self._call(
            panels.data_ptr(), x.data_ptr(), y.data_ptr(), x.shape[0], panels.shape[1], out,
            x.stride(0), y.stride(0), onto is not None, torch.get_num_threads(),
        )  # fmt: skip
        return y


def compiled(cache: Path, say: native.Say = lambda text: None) -> SkinnyGemm | None:
    """The kernel, compiled now or before; None where that isn't possible, and `say` is told why."""
    library = native.compiled(SOURCE, cache, lambda why: say(f"verification rows take the plain product: {why}"))
    return None if library is None else _loaded(library)


@lru_cache(maxsize=4)
def _loaded(library: Path) -> SkinnyGemm:
    return SkinnyGemm(library)
