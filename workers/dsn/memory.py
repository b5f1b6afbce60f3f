"""Batches halve when memory runs out, on a GPU or a CPU; a job never fails for a batch that was too large."""

import torch

from shared.jobs.errors import Permanent


def halved(size: int, error: RuntimeError) -> int:
    """Half of a batch that didn't fit, with the device's cache emptied.

    Raises the error if it isn't about memory, Permanent where one row alone is too much.
    """
    if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
        raise error
    if size == 1:
        raise Permanent(
            "not even one row fits the device's memory: take shorter prompts, or a larger device"
        ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return size // 2
