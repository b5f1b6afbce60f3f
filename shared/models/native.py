"""Our C++ kernels: compiled once per machine with its own g++, or brought along compiled; loaded with ctypes.

A library compiled here lies in a cache folder under the digest of source, compiler, flags and processor. Images hold no
compiler: their build stage compiles each source once per level of x86-64 (`compile_levels`), and the highest level that
the processor has is taken. With neither there is no kernel, and who asked is told why.
"""

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

FLAGS = ("-O3", "-march=native", "-funroll-loops", "-fopenmp", "-shared", "-fPIC", "-std=c++17")
LEVELS = {
    "x86-64-v4": frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    "x86-64-v3": frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}),
}
"""What kernels are compiled for in an image, best first, and what a processor must have for it."""
SHIPPED = Path(sys.prefix) / "share" / "tenfold" / "kernels"
COMPILE_TIMEOUT_S = 120
Say = Callable[[str], None]


def own_folder() -> Path:
    """Where this user's kernels lie when nobody names a folder."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tenfold" / "kernels"


def compiled(source: Path, cache: Path, say: Say = lambda text: None) -> Path | None:
    """The shared object of a source, compiled now or before; None where that isn't possible, and `say` is told why."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        shipped = shipped_for(source, SHIPPED)
        if shipped is None:
            say("no C++ compiler on this machine, and no kernel came with it")
        return shipped
    try:
        return _library(source, compiler, cache)
    except (OSError, subprocess.SubprocessError) as error:
        detail = (
            error.stderr.decode(errors="replace")[:500] if isinstance(error, subprocess.CalledProcessError) else error
        )
        say(f"{source.name} could not be compiled: {detail}")
        return None


def compile_levels(source: Path, folder: Path) -> list[Path]:
    """A source for each level, with the OpenMP library it needs beside it; on other processors none.

    Raises OSError, CalledProcessError.
    """
    if platform.machine() != "x86_64":
        return []
    compiler = os.environ.get("CXX", "g++")
    folder.mkdir(parents=True, exist_ok=True)
    asked = subprocess.run([compiler, "-print-file-name=libgomp.so.1"], check=True, capture_output=True, text=True)
    shutil.copy(asked.stdout.strip(), folder / "libgomp.so.1")
    libraries = []
    for level in LEVELS:
        library = folder / f"{source.stem}-{level}.so"
        flags = [f"-march={level}" if flag == "-march=native" else flag for flag in FLAGS]
        command = [compiler, *flags, "-Wl,-rpath,$ORIGIN", str(source), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_TIMEOUT_S)
        libraries.append(library)
    return libraries


def shipped_for(source: Path, folder: Path) -> Path | None:
    """The best of the folder's libraries of a source that this processor can run."""
    has = set(_processor().decode(errors="replace").split())
    found = (folder / f"{source.stem}-{level}.so" for level, needs in LEVELS.items() if needs <= has)
    return next((library for library in found if library.exists()), None)


def _library(source: Path, compiler: str, cache: Path) -> Path:
    """It appears whole or not at all."""
    path = cache / f"{source.stem}-{_key(source, compiler)}.so"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = cache / f".{path.name}.{secrets.token_hex(4)}"
        command = [compiler, *FLAGS, str(source), "-o", str(fresh)]
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_TIMEOUT_S)
        os.replace(fresh, path)
    return path


@lru_cache(maxsize=8)
def _key(source: Path, compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=30).stdout
    texts = [path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h")))]
    said = b"\0".join((*texts, version, repr(FLAGS).encode(), _processor()))
    return hashlib.sha256(said).hexdigest()[:32]


def _processor() -> bytes:
    """What -march=native looks at: a folder may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return b""
    return "\n".join([line for line in lines if line.startswith(("flags", "model name", "Features"))][:2]).encode()
