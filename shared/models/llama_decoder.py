"""Decoding with a Llama: static key-value cache, any run of layers over any few rows, logits at any exit.

Made for single-stream speed: norms are folded into the matrices after them, q, k, v and gate, up are one product each
(rows in that order), queries come scaled, and pairs that rotary positions turn lie side by side. The cache is allocated
once; a step writes rows in place and `truncate` is the caller's bookkeeping of lengths: stale rows are masked by length
and overwritten. One sequence takes slices; a batch of sequences of unlike lengths takes scattered writes and a mask,
whose shapes don't change from step to step, so that the same path can be compiled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.models.llama import Block, Llama, LlamaConfig
from shared.models.rotary import side_by_side, turns
from shared.models.skinny_gemm import SkinnyGemm

LONG = 32
"""From this many rows on, a pass from position 0 takes the fused attention."""


class Matrix(Protocol):
    """A weight (out, in) ready for products."""

    def __call__(self, x: Tensor) -> Tensor:
        """x (…, in) → (…, out)."""

    def of_normed(self, x: Tensor, eps: float) -> Tensor:
        """The same of x / √(mean x² + eps)."""

    def added(self, x: Tensor, onto: Tensor) -> Tensor:
        """onto + x · Wᵀ; `onto` may be overwritten."""


class PlainMatrix:
    """torch's own product, with Wᵀ stored contiguously: 1.1–1.6 times as fast for few rows."""

    def __init__(self, weight: Tensor) -> None:
        self._transposed = weight.t().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        return torch.matmul(x, self._transposed)

    def of_normed(self, x: Tensor, eps: float) -> Tensor:
        return torch.matmul(F.rms_norm(x, x.shape[-1:], None, eps), self._transposed)

    def added(self, x: Tensor, onto: Tensor) -> Tensor:
        if x.dim() == 2:
            return onto.addmm_(x, self._transposed)
        return onto + torch.matmul(x, self._transposed)


class SkinnyMatrix:
    """The skinny kernel's product, on (n, in) or (batch, n, in)."""

    def __init__(self, kernel: SkinnyGemm, weight: Tensor) -> None:
        self._kernel, self._panels, self._out = kernel, kernel.pack(weight), weight.shape[0]

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x, None)

    def of_normed(self, x: Tensor, eps: float) -> Tensor:
        return self._product(x, eps)

    def _product(self, x: Tensor, eps: float | None) -> Tensor:
        if x.dim() == 2:
            return self._kernel.product(x, self._panels, self._out, None, eps)
        rows = x.reshape(-1, x.shape[-1])
        return self._kernel.product(rows, self._panels, self._out, None, eps).view(*x.shape[:-1], self._out)

    def added(self, x: Tensor, onto: Tensor) -> Tensor:
        if x.dim() == 2:
            return self._kernel.product(x, self._panels, self._out, onto)
        return onto + self(x)


class Layer:
    """One block's matrices."""

    def __init__(self, block: Block, config: LlamaConfig, matrix: Callable[[Tensor], Matrix]) -> None:
        attention, ffn, wide = block.self_attn, block.mlp, torch.float32
        before, after = (norm.weight.to(wide) for norm in (block.input_layernorm, block.post_attention_layernorm))
        q, k = (side_by_side(proj.weight.to(wide), config.head_dim) for proj in (attention.q_proj, attention.k_proj))
        dtype = attention.q_proj.weight.dtype
        joined = torch.cat((q * config.head_dim**-0.5, k, attention.v_proj.weight.to(wide))) * before
        gate_up = torch.cat((ffn.gate_proj.weight, ffn.up_proj.weight)).to(wide) * after
        self.qkv, self.gate_up = matrix(joined.to(dtype)), matrix(gate_up.to(dtype))
        self.out, self.down = matrix(attention.o_proj.weight), matrix(ffn.down_proj.weight)


@dataclass
class Cache:
    """Keys and values of every layer: (batch, kv_heads, positions, head_dim) each."""

    keys: list[Tensor]
    values: list[Tensor]

    @property
    def positions(self) -> int:
        return self.keys[0].shape[2]

    @property
    def batch(self) -> int:
        return self.keys[0].shape[0]


class LlamaDecoder:
    """A model ready to decode. Keeps no sequence itself: that is a `Cache`."""

    def __init__(self, model: Llama, kernel: SkinnyGemm | None = None) -> None:
        config, weight = model.config, model.lm_head.weight
        self.config, self.dtype, self.device = config, weight.dtype, weight.device
        usable = weight.dtype == torch.float32 and weight.device.type == "cpu"
        self.kernel = kernel if usable else None
        self._compiled: Callable[..., Tensor] | None = None
        self._compiled_rows = 0
        with torch.no_grad():
            self.layers = [Layer(block, config, self._matrix) for block in model.blocks]
            folded = (weight.float() * model.model.norm.weight.float()).to(weight.dtype)
            self._head = self._matrix(folded)
            self._embedding = model.model.embed_tokens.weight.detach()
            self._turns = turns(config.context, config.inverse_frequencies()).to(self.device)
            self._later = torch.full((64, 64), float("-inf"), dtype=self.dtype, device=self.device).triu(1)
        self.bytes = sum(parameter.nbytes for parameter in model.parameters())

    def _matrix(self, weight: Tensor) -> Matrix:
        weight = weight.detach()
        return SkinnyMatrix(self.kernel, weight) if self.kernel is not None else PlainMatrix(weight)

    def cache(self, positions: int, batch: int = 1) -> Cache:
        """Room for so many positions of so many sequences."""
        shape = (batch, self.config.kv_heads, positions, self.config.head_dim)
        keys, values = ([torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in self.layers] for _ in "kv")
        return Cache(keys, values)

    def embed(self, ids: Tensor, out: Tensor | None = None) -> Tensor:
        """x_0 (…, d) of ids (…); of ids (n) into rows (n, d) that are there."""
        if out is not None:
            return torch.index_select(self._embedding, 0, ids, out=out)
        return F.embedding(ids, self._embedding)

    def embedded(self, token: int) -> Tensor:
        """x_0 (d) of one token: the model's own row, to be copied before layers run on it."""
        return self._embedding[token]

    def head(self, x: Tensor) -> Tensor:
        """g(x): logits (…, V) of hidden states (…, d)."""
        return self._head.of_normed(x, self.config.rms_eps)

    def run(
        self, x: Tensor, cache: Cache, first: int, last: int, start: int, taps: list[Tensor] | None = None
    ) -> Tensor:
        """x_first → x_last of one sequence through layers first … last − 1; x (n, d) is overwritten.

        Row i stands at position start + i, where its keys and values are written. `taps` gets a copy of every x_{l+1}.
        """
        for number in range(first, last):
            x = self._layer(x, cache, number, start)
            if taps is not None:
                taps.append(x.clone())
        return x

    def run_batch(self, x: Tensor, cache: Cache, first: int, last: int, starts: Sequence[int]) -> Tensor:
        """The same for a batch: x (batch, n, d), row i of sequence b at position starts[b] + i."""
        positions = torch.tensor(starts, device=self.device)[:, None] + torch.arange(x.shape[1], device=self.device)
        rows = x.shape[1]
        if self._compiled is None or rows > self._compiled_rows:
            return self.run_rows(x, cache, first, last, positions)
        if rows > 1:  # always as many: another number would be another graph
            x = F.pad(x, (0, 0, 0, self._compiled_rows - rows))
            positions = positions[:, :1] + torch.arange(self._compiled_rows, device=self.device)
        return self._compiled(x, cache, first, last, positions)[:, :rows]

    def compile(self, rows: int, mode: str | None = None) -> None:
        """Batches of one row, or of up to `rows`, run through torch.compile from now on: two graphs a run of layers."""
        self._compiled = torch.compile(self.run_rows, dynamic=False, mode=mode)
        self._compiled_rows = rows

    # One sequence -----------------------------------------------------------------------------------------------------

    def _layer(self, x: Tensor, cache: Cache, number: int, start: int) -> Tensor:
        """x (n, d), overwritten."""
        layer, config, rows = self.layers[number], self.config, x.shape[0]
        end, heads, keys = start + rows, config.heads, config.kv_heads
        joined = layer.qkv.of_normed(x, config.rms_eps).view(rows, heads + 2 * keys, config.head_dim)
        turned = self._turned(joined[:, : heads + keys], self._turns[start:end, None])
        k, v = cache.keys[number][0], cache.values[number][0]
        k[:, start:end].copy_(turned[:, heads:].transpose(0, 1))
        v[:, start:end].copy_(joined[:, heads + keys :].transpose(0, 1))
        x = layer.out.added(self._attend(turned[:, :heads], k, v, start), x)
        width = config.intermediate_size
        gate_up = layer.gate_up.of_normed(x, config.rms_eps)
        return layer.down.added(F.silu(gate_up[:, :width]).mul_(gate_up[:, width:]), x)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """q (n, heads, head_dim), k and v (kv_heads, positions, head_dim) → (n, heads · head_dim)."""
        rows, heads, width = q.shape
        if self.kernel is not None and rows < LONG and width % self.kernel.lanes == 0:
            return self.kernel.attend(q, k, v, start)
        k, v = k[:, : start + rows], v[:, : start + rows]
        if rows >= LONG and start == 0:
            fused = F.scaled_dot_product_attention(
                q.transpose(0, 1)[None], k[None], v[None], is_causal=True, scale=1.0, enable_gqa=heads != len(k)
            )
            return fused[0].transpose(0, 1).reshape(rows, heads * width)
        keys = k.shape[0]
        grouped = q.view(rows, keys, heads // keys, width).permute(1, 2, 0, 3).reshape(keys, -1, width)
        scores = torch.bmm(grouped, k.transpose(1, 2))  # (kv_heads, group · n, length)
        if rows > 1:
            scores.view(keys, -1, rows, start + rows)[..., start:].add_(self._masked(rows))
        attended = torch.bmm(torch.softmax(scores, -1), v)
        return attended.view(keys, heads // keys, rows, width).permute(2, 0, 1, 3).reshape(rows, heads * width)

    def _masked(self, rows: int) -> Tensor:
        if rows > len(self._later):
            shape = (rows, rows)
            self._later = torch.full(shape, float("-inf"), dtype=self.dtype, device=self.device).triu(1)
        return self._later[:rows, :rows]

    # A batch ----------------------------------------------------------------------------------------------------------

    def run_rows(self, x: Tensor, cache: Cache, first: int, last: int, positions: Tensor) -> Tensor:
        """x (batch, n, d) at positions (batch, n); attention over the whole cache, masked by position."""
        batch, rows, _ = x.shape
        config, at = self.config, torch.arange(cache.positions, device=x.device)
        seen = (at <= positions[..., None])[:, None]  # (batch, 1, n, positions)
        scatter = positions[:, None, :, None].expand(batch, config.kv_heads, rows, config.head_dim)
        turn = self._turns[positions][:, :, None]
        for number in range(first, last):
            layer = self.layers[number]
            joined = layer.qkv.of_normed(x, config.rms_eps).view(batch, rows, -1, config.head_dim)
            turned = self._turned(joined[:, :, : config.heads + config.kv_heads], turn)
            k, v = cache.keys[number], cache.values[number]
            k.scatter_(2, scatter, turned[:, :, config.heads :].transpose(1, 2))
            v.scatter_(2, scatter, joined[:, :, config.heads + config.kv_heads :].transpose(1, 2))
            attended = F.scaled_dot_product_attention(
                turned[:, :, : config.heads].transpose(1, 2), k, v, attn_mask=seen, scale=1.0,
                enable_gqa=config.heads != config.kv_heads,
            )  # fmt: skip
            x = layer.out.added(attended.transpose(1, 2).reshape(batch, rows, -1), x)
            gate, up = layer.gate_up.of_normed(x, config.rms_eps).chunk(2, dim=-1)
            x = layer.down.added(F.silu(gate) * up, x)
        return x

    # What both take ---------------------------------------------------------------------------------------------------

    def _turned(self, x: Tensor, turn: Tensor) -> Tensor:
        """Pairs of x (…, head_dim) turned by complex numbers (…, head_dim / 2); halves are computed in float32."""
        pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
