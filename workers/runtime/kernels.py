"""What workers would need a compiler for, compiled beforehand: images hold none.

`python -m workers.runtime.kernels`, in an image's build stage, compiles the C++ kernels for the levels of x86-64, and
where Triton is installed its one C module, through which it talks to the driver (all else that Triton and Inductor
compile on CUDA they compile themselves). Triton looks for it in its cache, which lies under TENFOLD_DATA and is empty
at first: `seed_triton` puts it there when a worker starts.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.models import native

TRITON = native.SHIPPED / "triton"


def seed_triton(shipped: Path = TRITON) -> None:
    """Copy what was shipped into Triton's cache, where TRITON_CACHE_DIR names one. What is there stays."""
    cache = os.environ.get("TRITON_CACHE_DIR")
    for module in shipped.rglob("*.so") if cache else ():
        target = Path(cache or "", module.relative_to(shipped))
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.copyfile(module, fresh)
            os.replace(fresh, target)


def main() -> None:
    """Compile everything into the installation's own folder."""
    for source in sorted(Path(native.__file__).parent.glob("*.cpp")):
        print(*native.compile_levels(source, native.SHIPPED), sep="\n")
    if find_spec("triton"):
        _compile_triton(TRITON)
        print(*TRITON.rglob("*.so"), sep="\n")


def _compile_triton(cache: Path) -> None:
    """Triton's own call for its module, against a driver library without content: a build machine needs no GPU."""
    os.environ["TRITON_CACHE_DIR"] = str(cache)
    with TemporaryDirectory() as stub:
        library = Path(stub) / "libcuda.so.1"
        command = [os.environ.get("CC", "gcc"), "-shared", "-x", "c", os.devnull, "-Wl,-soname,libcuda.so.1", "-o"]
        subprocess.run([*command, str(library)], check=True)
        os.environ["TRITON_LIBCUDA_PATH"] = stub
        from triton.backends.nvidia.driver import CudaUtils

        with suppress(ImportError):  # once it is compiled Triton loads it, which only a machine with the driver can
            CudaUtils()
    if not any(cache.rglob("cuda_utils*.so")):
        raise SystemExit(f"Triton left no module in {cache}")


if __name__ == "__main__":
    main()
