"""The timing of the SwiGLU core: rows, errors, refusals."""

import json

import pytest

from shared.jobs.catalog.silu import SwigluParams
from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from tests.tiny_model import edit_config, save_tiny_model
from workers.silu.jobs import swiglu

MODEL = "hub:tiny/llama"


def run(folder, inputs=None, **params):
    ctx = LocalContext(folder, inputs=inputs)
    result = swiglu(SwigluParams(**{"impl": "eager", **params}), ctx)
    ctx.close()
    return result


@pytest.mark.parametrize(("dtype", "bound"), [("fp32", 1e-6), ("bf16", 0.05), ("fp16", 0.01)])
def test_rows_say_time_memory_and_error_against_float64(tmp_path, dtype, bound):
    result = run(tmp_path, shapes=[[4, 32]], dtype=dtype)
    (row,) = result.rows
    assert (row.tokens, row.d_ff, row.impl, row.fastest) == (4, 32, "eager", True)
    assert 0 < row.max_error < bound
    assert row.saved_bytes == 3 * 4 * 32 * (4 if dtype == "fp32" else 2)
    assert row.forward_ms <= row.forward_backward_ms
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["impl"] == "eager"


def test_shapes_come_from_a_model_where_one_is_given(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    result = run(tmp_path / "out", {MODEL: folder}, model=MODEL)
    assert [(row.tokens, row.d_ff) for row in result.rows] == [(1, 64), (64, 64), (2048, 64)]


def test_a_model_that_is_no_llama_is_refused(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    edit_config(folder, model_type="gpt2")
    with pytest.raises(InvalidInput, match="only llama checkpoints"):
        run(tmp_path / "out", {MODEL: folder}, model=MODEL)


def test_what_cannot_run_here_is_refused_or_said(tmp_path):
    result = run(tmp_path / "a", shapes=[[2, 8]])
    if any("triton" in why for why in result.skipped):
        with pytest.raises(InvalidInput, match="impl triton can't run"):
            run(tmp_path / "b", shapes=[[2, 8]], impl="triton")
