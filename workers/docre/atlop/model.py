"""The model: encoder, pooling, grouped bilinear classifier.

z_h = tanh(W_h [h_h; c]), z_t = tanh(W_t [h_t; c]); both are split into d/k groups, each group's outer product joins a
vector of d·k, and a linear layer gives one logit per relation. Pairs go through in chunks: the bilinear input is large.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from shared.jobs.errors import InvalidInput
from shared.relations.documents import Document
from workers.docre.atlop.losses import sentence_attention
from workers.docre.atlop.pooling import ATLOP_EPSILON, DREEAM_EPSILON, Pooled, pool
from workers.docre.atlop.windows import Encoded, Specials, cut, joined
from workers.docre.atlop.wordpieces import Pieces, end_tokens, start_tokens, word_pieces
from workers.docre.model_file import About
from workers.docre.pairs import PairScores, ordered_pairs

PAIR_CHUNK = 512
DREEAM_LAYERS = 3  # the mean of the last three, states and attentions
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt",
                   "special_tokens_map.json", "sentencepiece.bpe.model", "spiece.model")  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What decides the model's form."""

    relations: int  # R, TH included
    emb_size: int = 768  # d
    block_size: int = 64  # k
    with_evidence: bool = False
    max_len: int = 1024
    max_sent: int = 25


class Output(NamedTuple):
    """Of one document."""

    logits: Tensor  # (pairs, R)
    sentences: Tensor  # s, (pairs, at most max_sent)
    attention: Tensor  # q, (pairs, L)


class Atlop(nn.Module):
    """Training takes a document at a time and accumulates gradients; scoring takes several at once."""

    def __init__(self, encoder: Any, specials: Specials, shape: Shape) -> None:
        super().__init__()
        self.encoder, self.shape, self._specials = encoder, shape, specials
        width = encoder.config.hidden_size
        self.head = nn.Linear(2 * width, shape.emb_size)
        self.tail = nn.Linear(2 * width, shape.emb_size)
        self.bilinear = nn.Linear(shape.emb_size * shape.block_size, shape.relations)
        self._padding = encoder.config.pad_token_id or 0
        self._window = min(512, getattr(encoder.config, "max_position_embeddings", 512))

    def forward(self, pieces: Pieces, pairs: Tensor) -> Output:
        """pairs (n, 2)."""
        return self.outputs([pieces], [pairs])[0]

    def outputs(self, batch: Sequence[Pieces], pairs: Sequence[Tensor]) -> list[Output]:
        """Documents through the encoder together, each with its pairs (n, 2)."""
        encoded = self._encoded(batch)
        return [self._output(*each) for each in zip(batch, encoded, pairs, strict=True)]

    def _output(self, pieces: Pieces, encoded: Encoded, pairs: Tensor) -> Output:
        epsilon = DREEAM_EPSILON if self.shape.with_evidence else ATLOP_EPSILON
        pairs = pairs.to(encoded.states.device)
        pooled = pool(encoded.states, encoded.attention, pieces.entities, pairs, epsilon)
        logits = torch.cat([self._classify(pooled, part) for part in torch.split(torch.arange(len(pairs)), PAIR_CHUNK)])
        sentences = sentence_attention(pooled.attention, pieces.sentences[: self.shape.max_sent])
        return Output(logits, sentences, pooled.attention)

    def _encoded(self, batch: Sequence[Pieces]) -> list[Encoded]:
        """Every document's windows in one padded batch."""
        device = self.head.weight.device
        texts = [torch.tensor(pieces.ids, device=device) for pieces in batch]
        windows = [cut(ids, self._specials, self._window) for ids in texts]
        parts = iter(self._encode([part for own in windows for part in own]))
        return [
            joined(len(ids), [next(parts) for _ in own], self._specials, self._window)
            for ids, own in zip(texts, windows, strict=True)
        ]

    def _encode(self, windows: Sequence[Tensor]) -> list[Encoded]:
        """(L,) token ids each, to states and attention."""
        ids = nn.utils.rnn.pad_sequence(list(windows), batch_first=True, padding_value=self._padding)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(window) for window in windows], batch_first=True)
        made = self.encoder(
            ids, attention_mask=mask, output_attentions=True, output_hidden_states=self.shape.with_evidence
        )
        states, attention = made.last_hidden_state, made.attentions[-1]
        if self.shape.with_evidence:
            states = torch.stack(made.hidden_states[-DREEAM_LAYERS:]).mean(dim=0)
            attention = torch.stack(made.attentions[-DREEAM_LAYERS:]).mean(dim=0)
        lengths = [len(window) for window in windows]
        return [Encoded(states[n, :length], attention[n, :, :length, :length]) for n, length in enumerate(lengths)]

    def _classify(self, pooled: Pooled, part: Tensor) -> Tensor:
        part = part.to(pooled.heads.device)
        z_h = torch.tanh(self.head(torch.cat([pooled.heads[part], pooled.contexts[part]], dim=1)))
        z_t = torch.tanh(self.tail(torch.cat([pooled.tails[part], pooled.contexts[part]], dim=1)))
        logits: Tensor = self.bilinear(grouped_outer(z_h, z_t, self.shape.block_size))
        return logits


def grouped_outer(z_h: Tensor, z_t: Tensor, k: int) -> Tensor:
    """(n, d) and (n, d) in d/k groups of k: every group's outer product, (n, d·k)."""
    n, d = z_h.shape
    a, b = z_h.view(n, d // k, k, 1), z_t.view(n, d // k, 1, k)
    return (a * b).reshape(n, d * k)


def pairs_tensor(document: Document) -> Tensor:
    return torch.from_numpy(ordered_pairs(document))


class AtlopScorer:
    """A trained model with its tokenizer."""

    def __init__(self, model: Atlop, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    @torch.inference_mode()
    def scores_of(self, documents: Sequence[Document]) -> list[PairScores]:
        """Of documents that go through the encoder together; one without pairs does not."""
        shape = self.model.shape
        found = [PairScores(np.zeros((0, shape.relations)), np.zeros((0, len(d.sentences)))) for d in documents]
        chosen = [n for n, document in enumerate(documents) if len(document.entities) > 1]
        if not chosen:
            return found
        pieces = [word_pieces(documents[n], self.tokenizer, shape.max_len) for n in chosen]
        outputs = self.model.outputs(pieces, [pairs_tensor(documents[n]) for n in chosen])
        for n, out in zip(chosen, outputs, strict=True):
            found[n] = PairScores(out.logits.float().cpu().numpy(), out.sentences.float().cpu().numpy())
        return found


# Files ----------------------------------------------------------------------------------------------------------------


def new_atlop(folder: Path, shape: Shape) -> AtlopScorer:
    """An encoder of a folder with fresh layers on it. Raises InvalidInput."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # `sdpa` gives no attentions; pooling needs them.
        encoder = AutoModel.from_pretrained(folder, local_files_only=True, attn_implementation="eager")
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"encoder: {folder.name} can't be loaded: {error}; give a BERT or RoBERTa folder") from None
    return AtlopScorer(Atlop(encoder, _specials(tokenizer), shape), tokenizer)


def _specials(tokenizer: Any) -> Specials:
    return Specials(start_tokens(tokenizer), end_tokens(tokenizer))


def weights_of(model: Atlop) -> bytes:
    return save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})


def set_weights(model: Atlop, data: bytes) -> None:
    model.load_state_dict(load_tensors(data))


def atlop_members(scorer: AtlopScorer, weights: bytes, folder: Path) -> dict[str, bytes]:
    """What `load_atlop` needs: weights, the encoder's configuration, the tokenizer."""
    members = {"atlop.safetensors": weights, "config.json": (folder / "config.json").read_bytes()}
    return members | {name: (folder / name).read_bytes() for name in TOKENIZER_FILES if (folder / name).exists()}


def load_atlop(folder: Path, about: About) -> AtlopScorer:
    """A model of `docre.train`."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    encoder = AutoModel.from_config(config, attn_implementation="eager")  # type: ignore[no-untyped-call]
    model = Atlop(encoder, _specials(tokenizer), Shape(**(about.architecture or {})))
    set_weights(model, (folder / "atlop.safetensors").read_bytes())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return AtlopScorer(model.to(device), tokenizer)


def tensors_blob(value: Any) -> bytes:
    """Optimiser state as bytes, read back by `blob_tensors`."""
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def blob_tensors(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)
