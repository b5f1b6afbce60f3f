"""Where models are trained: the GPU if the worker has one, else the CPU."""

import torch


def training_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
