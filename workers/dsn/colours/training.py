"""Train the colour world's chat model:

    python -m workers.dsn.colours.training OUT [--seed 0] [--steps 2500]

A Llama of 165,440 weights; about 220 CPU-seconds. The folders that Tenfold ships are what seed 1 (`model`) and seed 0
(`model-2`) gave. Weights are kept in float16, half the size, and computed with in float32.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workers.dsn.colours.world import BANG, FILLERS, SPECIAL, TEMPLATE, VOCABULARY, Goal, World, goals

BATCH, STEPS, WARM_UP = 64, 2_500, 100
LEARNING_RATE, LAST_SHARE = 3e-3, 0.02
IGNORED = -100
IDS = {word: number for number, word in enumerate(VOCABULARY)}
PAD, BOS, EOT, USR, AST = (IDS[word] for word in ("<pad>", "<bos>", "<eot>", "<usr>", "<ast>"))
ORDINARY = VOCABULARY[len(SPECIAL) :]


def train(folder: Path, seed: int = 0, steps: int = STEPS) -> float:
    """Train a model and save its folder; the loss of the last 100 steps, nats per answer token."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(configuration())
    batches = _batches(World(), np.random.default_rng([seed, 1]))
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    losses = []
    for _ in range(steps):
        ids, labels = next(batches)
        loss = model(input_ids=ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    save(model, folder)
    return float(np.mean(losses[-100:]))


def configuration() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(VOCABULARY), hidden_size=64, intermediate_size=176, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=True, initializer_range=0.05,
        bos_token_id=BOS, eos_token_id=EOT, pad_token_id=PAD,
    )  # fmt: skip


def tokenizer() -> Any:
    """Words split at whitespace; what is unknown is `<unk>`."""
    words = Tokenizer(WordLevel(IDS, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast  # its constructor carries no types
    made = fast(
        tokenizer_object=words, bos_token="<bos>", eos_token="<eot>", pad_token="<pad>", unk_token="<unk>",
        additional_special_tokens=["<usr>", "<ast>"], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    made.chat_template = TEMPLATE
    return made


def save(model: Any, folder: Path) -> None:
    """Weights in float16 as safetensors, configuration, tokenizer and template."""
    model.half().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def draw_suffix(world: World, rng: np.random.Generator) -> list[str]:
    """A suffix as training texts have them: often none, sometimes bangs, else words that often mean something."""
    kind = rng.random()
    if kind < 0.12:
        return []
    count = int(rng.integers(1, 13))
    if kind < 0.17:
        return [BANG] * count
    if rng.random() >= 0.6:
        return [_any_word(rng) for _ in range(count)]
    chances = rng.uniform(0, 0.6), rng.uniform(0, 0.4), rng.uniform(0, 0.4)
    return [_helping_word(world, chances, rng) for _ in range(count)]


def _helping_word(world: World, chances: tuple[float, float, float], rng: np.random.Generator) -> str:
    for words, chance in zip((world.early_help, world.late_help, world.steering), chances, strict=True):
        if rng.random() < chance:
            return str(words[rng.integers(len(words))])
    return _any_word(rng)


def _any_word(rng: np.random.Generator) -> str:
    words = FILLERS if rng.random() < 0.7 else ORDINARY
    return words[rng.integers(len(words))]


def _batches(world: World, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches (ids, labels), each (64, longest), padded on the right."""
    free, restricted = goals(restricted=False), goals(restricted=True)
    while True:
        rows = []
        for _ in range(BATCH):
            chosen = restricted if rng.random() < 0.7 else free
            rows.append(_example(world, chosen[rng.integers(len(chosen))], rng))
        longest = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids = np.full((BATCH, longest), PAD)
        labels = np.full((BATCH, longest), IGNORED)
        for number, (prompt, answer) in enumerate(rows):
            ids[number, : len(prompt) + len(answer)] = prompt + answer
            labels[number, len(prompt) : len(prompt) + len(answer)] = answer
        yield torch.from_numpy(ids), torch.from_numpy(labels)


def _example(world: World, goal: Goal, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    suffix = draw_suffix(world, rng)
    words = [*goal.text.split(), *suffix]
    answer = world.answer(goal, suffix, rng).split()
    return [BOS, USR, *(IDS[w] for w in words), EOT, AST], [*(IDS[w] for w in answer), EOT]


def _rate(step: int, steps: int) -> float:
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, steps - WARM_UP)
    return LAST_SHARE + (1 - LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * done))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the colour world's chat model.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"loss {train(arguments.out, arguments.seed, arguments.steps):.4f} in {arguments.out}")


if __name__ == "__main__":
    main()
