"""The Llama decoder that Tenfold trains and serves, able to stop at any layer.

Pre-norm blocks x_{l+1} = x_l + f_l(x_l) with RMSNorm, rotary positions, grouped-query attention and SwiGLU; logits
after any number E of layers are g(x_E) = lm_head(norm(x_E)), the final norm applied at every exit (LayerSkip, arXiv
2404.16710). Parameter names are those of Hugging Face's Llama. Decoding with a cache: `llama_decoder`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.models.rotary import cos_sin, inverse_frequencies, rotate
from shared.models.silu import eager_swiglu


@dataclass(frozen=True)
class LlamaConfig:
    """Shape of a model."""

    vocab_size: int  # V
    hidden_size: int  # d
    intermediate_size: int  # d_ff
    layers: int  # L
    heads: int
    kv_heads: int
    head_dim: int
    context: int = 2048  # most positions
    rms_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: Mapping[str, Any] | None = None
    tied: bool = False  # the head is the embedding
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)  # what else a checkpoint's config says, kept when saving

    def inverse_frequencies(self) -> Tensor:
        return inverse_frequencies(self.head_dim, self.rope_theta, self.rope_scaling)


class Attention(nn.Module):
    """Causal grouped-query attention."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            proj(x).view(batch, length, -1, self.config.head_dim).transpose(1, 2)  # (batch, heads, length, head_dim)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        grouped = self.config.heads != self.config.kv_heads
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        projected: Tensor = self.o_proj(attended.transpose(1, 2).reshape(batch, length, -1))
        return projected


class SwigluFfn(nn.Module):
    """y = (f(x·Wgᵀ) ⊙ (x·Wuᵀ))·Wdᵀ."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        down: Tensor = self.down_proj(eager_swiglu(self.gate_proj(x), self.up_proj(x)))
        return down


class Block(nn.Module):
    """One whole layer; `change` is f_l."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_eps)
        self.mlp = SwigluFfn(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x_l → x_{l+1}, (batch, length, d)."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        after: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return after


class _Layers(nn.Module):
    """What Hugging Face calls `model`: everything but the head."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_eps)


class Llama(nn.Module):
    """The model. `blocks`, `embed` and `head` are its parts; `states` runs them."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _Layers(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._angles: tuple[Tensor, Tensor] | None = None

    @property
    def blocks(self) -> list[Block]:
        return list(self.model.layers)  # type: ignore[arg-type]

    def embed(self, ids: Tensor) -> Tensor:
        """x_0 (batch, length, d) of token ids (batch, length)."""
        embedded: Tensor = self.model.embed_tokens(ids)
        return embedded

    def head(self, x: Tensor) -> Tensor:
        """g(x): logits (…, V) of hidden states (…, d) after any layer."""
        logits: Tensor = self.lm_head(self.model.norm(x))
        return logits

    def angles(self, length: int) -> tuple[Tensor, Tensor]:
        """cos and sin (length, head_dim)."""
        device = self.lm_head.weight.device
        if self._angles is None or len(self._angles[0]) < length or self._angles[0].device != device:
            with torch.inference_mode(
                False
            ):  # a look in the middle of training must not leave tensors training can't use
                self._angles = cos_sin(length, self.config.inverse_frequencies().to(device))
        cos, sin = self._angles
        return cos[:length], sin[:length]

    def states(self, ids: Tensor, layers: int | None = None) -> Iterator[Tensor]:
        """x_1, x_2, … x_L (or up to `layers`), each (batch, length, d), not normed."""
        x, (cos, sin) = self.embed(ids), self.angles(ids.shape[1])
        for block in self.blocks[:layers]:
            x = block(x, cos, sin)
            yield x

    def forward(self, ids: Tensor, exit_layer: int | None = None) -> Tensor:
        """Logits (batch, length, V) after `exit_layer` layers; all of them when it is left out."""
        x = self.embed(ids)
        for after in self.states(ids, exit_layer):
            x = after
        return self.head(x)


def initialise(model: Llama, seed: int, scale: float = 0.02) -> None:
    """N(0, 0.02); projections back into the stream (o, down) by 1/√(2L) smaller, as GPT-2 does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() < 2:
                weight.fill_(1.0)
                continue
            into_stream = name.endswith(("o_proj.weight", "down_proj.weight"))
            std = scale / (2 * model.config.layers) ** 0.5 if into_stream else scale
            weight.copy_(torch.empty(weight.shape).normal_(0.0, std, generator=generator))
