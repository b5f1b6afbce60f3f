"""Products of a few rows with a matrix, x (n, in) · Wᵀ, by a kernel compiled once per machine.

Stock float32 GEMMs take three times as long for three rows as for one, although the weights are read once: a
verification pass then costs what speculation saves. `skinny_gemm.cpp` reads the weights once for all rows. It is
compiled with the machine's g++ into a cache folder, under the digest of source, compiler, flags and processor. Images
hold no compiler: their build stage compiles it once per level of x86-64 (`compile_levels`), and the highest that the
processor has is taken. With neither `compiled` gives None and says why, and `torch` computes: the kernel's oracle.
"""

import ctypes
import hashlib
import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("skinny_gemm.cpp")
FLAGS = ("-O3", "-march=native", "-funroll-loops", "-fopenmp", "-shared", "-fPIC", "-std=c++17")
LEVELS = {
    "x86-64-v4": frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    "x86-64-v3": frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}),
}
"""What the kernel is compiled for in an image, best first, and what a processor must have for it."""
SHIPPED = Path(sys.prefix) / "share" / "tenfold" / "kernels"
COMPILE_TIMEOUT_S = 120
Say = Callable[[str], None]


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


def compiled(cache: Path, say: Say = lambda text: None) -> SkinnyGemm | None:
    """The kernel, compiled now or before; None where that isn't possible, and `say` is told why."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    shipped = None if compiler else shipped_for(SHIPPED)
    if compiler is None and shipped is None:
        say("no C++ compiler on this machine, and no kernel came with it: verification rows take the plain product")
        return None
    try:
        return _loaded(_library(compiler, cache) if compiler else shipped)
    except (OSError, subprocess.SubprocessError) as error:
        detail = (
            error.stderr.decode(errors="replace")[:500] if isinstance(error, subprocess.CalledProcessError) else error
        )
        say(f"the skinny product could not be compiled, verification rows take the plain one: {detail}")
        return None


def compile_levels(folder: Path) -> list[Path]:
    """The kernel for each level, with the OpenMP library it needs beside it; on other processors none.

    Raises OSError, CalledProcessError."""
    if platform.machine() != "x86_64":
        return []
    compiler = os.environ.get("CXX", "g++")
    folder.mkdir(parents=True, exist_ok=True)
    asked = subprocess.run([compiler, "-print-file-name=libgomp.so.1"], check=True, capture_output=True, text=True)
    shutil.copy(asked.stdout.strip(), folder / "libgomp.so.1")
    libraries = []
    for level in LEVELS:
        library = folder / f"skinny-{level}.so"
        flags = [f"-march={level}" if flag == "-march=native" else flag for flag in FLAGS]
        command = [compiler, *flags, "-Wl,-rpath,$ORIGIN", str(SOURCE), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_TIMEOUT_S)
        libraries.append(library)
    return libraries


def shipped_for(folder: Path) -> Path | None:
    """The best of the folder's libraries that this processor can run."""
    has = set(_processor().decode(errors="replace").split())
    found = (folder / f"skinny-{level}.so" for level, needs in LEVELS.items() if needs <= has)
    return next((library for library in found if library.exists()), None)


@lru_cache(maxsize=4)
def _loaded(library: Path) -> SkinnyGemm:
    return SkinnyGemm(library)


def _library(compiler: str, cache: Path) -> Path:
    """The shared object for this source, compiler and processor; it appears whole or not at all."""
    path = cache / f"skinny-{_key(compiler)}.so"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = cache / f".{path.name}.{secrets.token_hex(4)}"
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(fresh)]
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_TIMEOUT_S)
        os.replace(fresh, path)
    return path


@lru_cache(maxsize=4)
def _key(compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=30).stdout
    return hashlib.sha256(b"\0".join((SOURCE.read_bytes(), version, repr(FLAGS).encode(), _processor()))).hexdigest()[
        :32
    ]


def _processor() -> bytes:
    """What -march=native looks at: a folder may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return b""
    return "\n".join([line for line in lines if line.startswith(("flags", "model name", "Features"))][:2]).encode()
