"""A sentence encoder in OpenVINO: converted from torch once per weights and version, then read from the cache."""

import os
import secrets
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
from numpy.typing import NDArray

from shared.models.folder import EncoderFolder

FORM = "1"  # goes up when the converted graph changes


def openvino_forward(folder: EncoderFolder, precision: Literal["bf16", "f32"], cache: Path | None) -> Any:
    """One request, one thread."""
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.Core().compile_model(_model(folder, cache), "CPU", settings)
    request = compiled.create_infer_request()

    def forward(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        outputs = request.infer({0: ids, 1: mask}, share_inputs=True)
        return np.array(outputs[0], np.float32)

    return forward


def _model(folder: EncoderFolder, cache: Path | None) -> Any:
    if cache is None:
        with tempfile.TemporaryDirectory() as empty:
            return openvino.Core().read_model(_converted(folder, Path(empty)))
    version = openvino.__version__.partition("-")[0]
    kept = cache / f"{folder.digest[:32]}-{version}-{FORM}"
    if not (kept / "model.xml").exists():
        _keep(folder, kept)
    return openvino.Core().read_model(kept / "model.xml")


def _keep(folder: EncoderFolder, kept: Path) -> None:
    """Convert beside, then rename: two workers may do it at once."""
    fresh = kept.with_name(f".{kept.name}.{secrets.token_hex(4)}")
    fresh.mkdir(parents=True)
    _converted(folder, fresh)
    try:
        os.rename(fresh, kept)
    except OSError:
        shutil.rmtree(fresh)
        if not (kept / "model.xml").exists():
            raise


def _converted(folder: EncoderFolder, into: Path) -> Path:
    import torch

    from shared.models.pooled import load_pooled

    tokens = torch.ones((2, 8), dtype=torch.long)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        example = {"input_ids": tokens, "attention_mask": tokens}
        model = openvino.convert_model(load_pooled(folder), example_input=example)
    openvino.save_model(model, into / "model.xml", compress_to_fp16=False)
    return into / "model.xml"
