"""Our C++ kernels: compiled once per machine with its own g++, loaded with ctypes. Without a compiler there are none.

A library lies in a cache folder under the digest of source, compiler, flags and processor.
"""

import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-funroll-loops", "-fopenmp", "-shared", "-fPIC", "-std=c++17")
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
        say("no C++ compiler on this machine")
        return None
    try:
        return _library(source, compiler, cache)
    except (OSError, subprocess.SubprocessError) as error:
        detail = (
            error.stderr.decode(errors="replace")[:500] if isinstance(error, subprocess.CalledProcessError) else error
        )
        say(f"{source.name} could not be compiled: {detail}")
        return None


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
