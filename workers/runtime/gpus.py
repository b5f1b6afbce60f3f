"""Memory of this machine's GPUs, as NVIDIA's management library tells it: of every process, without CUDA in this."""

from functools import cache
from types import ModuleType

from shared.jobs.workers import GpuMemory


def gpu_memory() -> list[GpuMemory]:
    """Of each GPU that is visible here, in order; none without the driver or the package nvidia-ml-py."""
    library = _library()
    if library is None:
        return []
    try:
        devices = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
        memories = [library.nvmlDeviceGetMemoryInfo(device) for device in devices]
    except library.NVMLError:  # a GPU that fell off its bus: the metric is missing, the worker goes on
        return []
    return [GpuMemory(int(memory.used), int(memory.total)) for memory in memories]


@cache
def _library() -> ModuleType | None:
    """Opened once."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    found: ModuleType = pynvml
    return found
