"""What activations and the SwiGLU core cost: contenders take turns, medians count. CPU time; on CUDA wall time."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from shared.jobs.catalog.silu import Cost, SwigluParams, SwigluRow
from shared.models.silu import Impl, swiglu
from shared.models.swiglu_choice import available
from workers.silu.activations import FUNCTIONS

REPETITIONS = 20
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COPY_ELEMENTS = 2**24

Run = Callable[[], None]


def interleaved(runs: Mapping[str, Run], repetitions: int, device: str) -> dict[str, float]:
    """Median seconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()  # warm
    for _ in range(repetitions):
        for name, run in runs.items():
            start = _now(device)
            run()
            taken[name].append(_now(device) - start)
    return {name: statistics.median(each) for name, each in taken.items()}


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def activation_costs(activations: Sequence[str], elements: int) -> list[Cost]:
    """Of so many float32 elements."""
    if not elements:
        return []
    x, grad = torch.randn(elements), torch.randn(elements)
    leaf = x.clone().requires_grad_()

    def forward(name: str) -> Run:
        def run() -> None:
            with torch.no_grad():
                FUNCTIONS[name](x)

        return run

    def both(name: str) -> Run:
        return lambda: _discard(torch.autograd.grad(FUNCTIONS[name](leaf), leaf, grad))

    ahead = interleaved({name: forward(name) for name in activations}, REPETITIONS, "cpu")
    back = interleaved({name: both(name) for name in activations}, REPETITIONS, "cpu")
    return [
        Cost(activation=name, forward_ms=1000 * ahead[name], forward_backward_ms=1000 * back[name])
        for name in activations
    ]


def _discard(value: object) -> None:
    """What was computed isn't needed."""


class Core(NamedTuple):
    """Tensors of one shape."""

    g: Tensor
    u: Tensor
    grad: Tensor

    @classmethod
    def of(cls, shape: tuple[int, int], dtype: torch.dtype, device: str, seed: int) -> "Core":
        generator = torch.Generator().manual_seed(seed)
        g, u, grad = (torch.randn(shape, generator=generator).to(device, dtype) for _ in "gud")
        return cls(g, u, grad)

    @property
    def leaves(self) -> tuple[Tensor, Tensor]:
        return self.g.detach().requires_grad_(), self.u.detach().requires_grad_()


def shape_rows(params: SwigluParams, shape: tuple[int, int], device: str) -> list[SwigluRow]:
    """Every implementation on one shape."""
    core = Core.of(shape, TYPES[params.dtype], device, params.seed)
    impls = available(device, core.g.dtype) if params.impl == "auto" else [params.impl]
    forward = interleaved({impl: _forward(core, impl) for impl in impls}, params.repetitions, device)
    both = interleaved({impl: _both(core, impl, params) for impl in impls}, params.repetitions, device)
    best = min(both.values())
    return [_row(core, impl, forward[impl], both[impl], both[impl] == best, params) for impl in impls]


def _forward(core: Core, impl: Impl) -> Run:
    def run() -> None:
        with torch.no_grad():
            swiglu(core.g, core.u, impl)

    return run


def _both(core: Core, impl: Impl, params: SwigluParams) -> Run:
    g, u = core.leaves

    def run() -> None:
        _discard(torch.autograd.grad(swiglu(g, u, impl, params.save), (g, u), core.grad))

    return run


def _row(core: Core, impl: Impl, forward: float, both: float, fastest: bool, params: SwigluParams) -> SwigluRow:
    g, u = core.leaves
    out = swiglu(g, u, impl, params.save)
    exact = core.g.double() * torch.sigmoid(core.g.double()) * core.u.double()
    error = out.detach().double() - exact
    rows, width = core.g.shape
    return SwigluRow(
        tokens=rows, d_ff=width, impl=impl, forward_ms=1000 * forward, forward_backward_ms=1000 * both,
        gb_per_s=3 * core.g.nbytes / forward / 1e9 if forward else 0.0, saved_bytes=saved_bytes(core, impl, params),
        peak_bytes=_peak(core, impl, params), max_error=float(error.abs().max()),
        relative_rms_error=float(error.pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()), fastest=fastest,
    )  # fmt: skip


def saved_bytes(core: Core, impl: Impl, params: SwigluParams) -> int:
    """Tensors that autograd keeps for backward, each counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    g, u = core.leaves
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        swiglu(g, u, impl, params.save)
    return sum(kept.values())


def _peak(core: Core, impl: Impl, params: SwigluParams) -> int | None:
    if core.g.device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    _both(core, impl, params)()
    return int(torch.cuda.max_memory_allocated())


def copy_bandwidth(device: str) -> float:
    """GB/s of a large copy, read and write counted."""
    source = torch.randn(COPY_ELEMENTS, device=device)
    target = torch.empty_like(source)
    taken = interleaved({"copy": lambda: _discard(target.copy_(source))}, REPETITIONS, device)["copy"]
    return 2 * source.nbytes / taken / 1e9
