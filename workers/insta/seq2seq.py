"""A small T5 trained from scratch on generated tasks: words of instructions and characters of data are its tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from shared.data.instruction_tasks import Instance, InstructionTask
from workers.insta.bm25 import WORD

PAD, END, DATA, UNKNOWN = 0, 1, 2, 3
SPECIAL = ("<pad>", "</s>", "<data>", "<unk>")
INSTRUCTION_WORDS, INPUT_CHARACTERS, OUTPUT_CHARACTERS = 24, 64, 48
HEADS = 4
IGNORED = -100  # the loss's word for padding


class Vocabulary:
    """Words of all instructions and characters of all instances."""

    def __init__(self, tasks: Iterable[InstructionTask]) -> None:
        words: set[str] = set()
        characters: set[str] = set()
        for task in tasks:
            words |= {word for template in task.templates for word in WORD.findall(template.text.lower())}
            characters |= {c for each in task.instances for c in each.input + each.output}
        tokens = [*SPECIAL, *sorted(f"word:{word}" for word in words), *sorted(characters)]
        self._ids = {token: number for number, token in enumerate(tokens)}

    def __len__(self) -> int:
        return len(self._ids)

    def source(self, instruction: str, given: str) -> list[int]:
        """Instruction, data mark, data, end."""
        words = [self._id(f"word:{word}") for word in WORD.findall(instruction.lower())[:INSTRUCTION_WORDS]]
        return [*words, DATA, *(self._id(c) for c in given[:INPUT_CHARACTERS]), END]

    def target(self, wanted: str) -> list[int]:
        return [*(self._id(c) for c in wanted[:OUTPUT_CHARACTERS]), END]

    def _id(self, token: str) -> int:
        return self._ids.get(token, UNKNOWN)


class Examples(NamedTuple):
    """A batch: (batch, length) sources and targets, padded."""

    sources: Tensor
    labels: Tensor  # IGNORED where padded


@dataclass(frozen=True)
class Size:
    """Of the model."""

    width: int
    layers: int


def small_t5(vocabulary: int, size: Size, seed: int) -> nn.Module:
    """An untrained T5 v1.1; dropout off, so that a resumed run is the same run."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    make_config: Any = T5Config  # its own fields and the base class's
    config = make_config(
        vocab_size=vocabulary, d_model=size.width, d_kv=size.width // HEADS, d_ff=4 * size.width,
        num_layers=size.layers, num_decoder_layers=size.layers, num_heads=HEADS, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=PAD, pad_token_id=PAD,
        eos_token_id=END, use_cache=False,
    )  # fmt: skip
    model: nn.Module = T5ForConditionalGeneration(config)
    return model


def collate(vocabulary: Vocabulary, examples: Sequence[tuple[str, Instance]]) -> Examples:
    """(instruction, instance) pairs as a batch."""
    sources = [vocabulary.source(instruction, each.input) for instruction, each in examples]
    targets = [vocabulary.target(each.output) for _, each in examples]
    return Examples(_padded(sources, PAD), _padded(targets, IGNORED))


def draw(tasks: Sequence[InstructionTask], count: int, rng: np.random.Generator) -> list[tuple[str, Instance]]:
    """Examples, each task as likely, each with one of its instructions."""
    drawn = []
    for place in rng.integers(0, len(tasks), count):
        task = tasks[place]
        instance = task.instances[int(rng.integers(0, len(task.instances)))]
        drawn.append((task.templates[int(rng.integers(0, len(task.templates)))].text, instance))
    return drawn


def loss_of(model: nn.Module, batch: Examples) -> Tensor:
    """Cross-entropy per token."""
    output: Any = model(input_ids=batch.sources, attention_mask=(batch.sources != PAD).long(), labels=batch.labels)
    loss: Tensor = output.loss
    return loss


class Score(NamedTuple):
    """On examples that weren't trained on."""

    accuracy: float  # exact matches under greedy decoding
    loss: float  # nats per token


def score(model: nn.Module, batch: Examples) -> Score:
    """Greedy decoding matches exactly where every next token is right after the right ones before it: one pass."""
    model.eval()
    with torch.no_grad():
        output: Any = model(input_ids=batch.sources, attention_mask=(batch.sources != PAD).long(), labels=batch.labels)
    right = (output.logits.argmax(dim=-1) == batch.labels) | (batch.labels == IGNORED)
    model.train()
    return Score(float(right.all(dim=1).double().mean()), float(output.loss))


def _padded(rows: list[list[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])
