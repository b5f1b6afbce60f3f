"""The specification's micro-model, small models of bytes, and contexts that share one cache (one compiled kernel)."""

import itertools
import os
from pathlib import Path

import pytest
import torch

from shared.jobs.local import LocalContext
from shared.models.llama import Llama, LlamaConfig, initialise
from shared.models.llama_checkpoint import save_llama
from shared.models.llama_decoder import LlamaDecoder
from shared.models.skinny_gemm import compiled
from workers.layerskip.packing import model_files, tar_of
from workers.layerskip.tokenising import Bytes

REPOSITORY = Path(__file__).parents[4]
MODEL, FILE, OTHER = (f"file:{letter * 64}" for letter in "abc")
PROMPT = [3, 1, 4, 1, 5]
END = 31
SCALES = {"q_proj": 0.5, "k_proj": 0.5, "v_proj": 0.5, "o_proj": 0.35, "gate_proj": 0.5, "up_proj": 0.5,
          "down_proj": 0.35}  # fmt: skip


def drawn(shape, k, scale):
    """Tensor number k of the micro-model: two steps of congruential arithmetic per element."""
    i = torch.arange(shape[0] * shape[1], dtype=torch.int64)
    z = (i * 2654435761 + k * 40503 + 12345) % 2**32
    z = torch.tensor([(int(value) * 1103515245 + 12345) % 2**31 for value in z], dtype=torch.float64)
    return ((2 * z / (2**31 - 1) - 1) * scale).float().view(shape)


def micro(seed, ends=(END,), context=128):
    """V = 32, d = 16, L = 4, two heads, ffn 24, untied head."""
    config = LlamaConfig(32, 16, 24, 4, 2, 2, 8, context=context, rms_eps=1e-6, eos_ids=ends)
    model, k = Llama(config), itertools.count(1000 * seed + 1)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(drawn((32, 16), next(k), 1.0))
        for block in model.blocks:
            for name, scale in SCALES.items():
                owner = block.self_attn if hasattr(block.self_attn, name) else block.mlp
                weight = getattr(owner, name).weight
                weight.copy_(drawn(tuple(weight.shape), next(k), scale))
        model.lm_head.weight.copy_(drawn((32, 16), next(k), 0.6))
    return model.eval()


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def kernel(cache):
    return compiled(cache / "kernels")


@pytest.fixture(scope="session")
def micro_model():
    return micro


@pytest.fixture(scope="session")
def micro_decoder(kernel):
    """A decoder of the micro-model of some seed: `micro_decoder(2)`."""
    return lambda seed, with_kernel=True: LlamaDecoder(micro(seed), kernel if with_kernel else None)


@pytest.fixture
def context(cache):
    """`context(folder, {ref: path})`."""

    made = []

    def make(folder, inputs=None, say=lambda event, data: None):
        made.append(LocalContext(folder, inputs=inputs, say=say, cache=cache))
        return made[-1]

    yield make
    for each in made:
        each.release()


@pytest.fixture(scope="session")
def micro_tar(tmp_path_factory):
    """The micro-model of seed 2 as a tar, without a tokenizer."""
    path = tmp_path_factory.mktemp("micro") / "model.tar"
    path.write_bytes(tar_of(save_llama(micro(2))))
    return path


def byte_model(layers=3, width=32, seed=0, **config):
    """A random model of bytes: for plumbing; what it says means nothing."""
    model = Llama(LlamaConfig(256, width, 2 * width, layers, 2, 2, width // 2, **{"context": 256, **config}))
    initialise(model, seed, scale=0.3)
    return model.eval()


@pytest.fixture(scope="session")
def byte_tar(tmp_path_factory):
    path = tmp_path_factory.mktemp("bytes") / "model.tar"
    path.write_bytes(tar_of(model_files(byte_model(), Bytes())))
    return path


@pytest.fixture(name="byte_model", scope="session")
def byte_model_fixture():
    return byte_model


@pytest.fixture(scope="session")
def real_data():
    """The folder of SNIPS and Shakespeare; tests that need it are skipped where it is absent."""
    root = Path(os.environ.get("TENFOLD_REAL_DATA") or REPOSITORY.parent / "shared" / "data")
    folder = root / "layerskip"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set TENFOLD_REAL_DATA")
    return folder


def contents(folder, without=("timings.jsonl", "speed.jsonl")):
    """Bytes of every artifact that must not change between runs."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name not in without}


@pytest.fixture(name="contents", scope="session")
def contents_fixture():
    return contents
