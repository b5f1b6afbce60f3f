"""Eager or compiled: never asked on the CPU, measured once on CUDA."""

import pytest
import torch

from shared.models.llama_decoder import LlamaDecoder
from workers.layerskip.device_loop import measured, takes_compiled


def test_on_the_cpu_the_eager_loop_is_taken_and_nothing_is_measured(micro_decoder, tmp_path):
    assert not takes_compiled(micro_decoder(2), "digest", 5, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore")
def test_on_cuda_the_choice_is_measured_once_and_kept(micro_model, tmp_path):
    decoder = LlamaDecoder(micro_model(2).cuda())
    eager, compiled = measured(decoder, 5)
    assert min(eager, compiled) > 0
    first = takes_compiled(decoder, "digest", 5, tmp_path)
    (kept,) = (tmp_path / "loops").iterdir()
    changed = kept.stat().st_mtime_ns
    assert takes_compiled(decoder, "digest", 5, tmp_path) == first
    assert kept.stat().st_mtime_ns == changed
