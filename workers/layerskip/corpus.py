"""What training and evaluation read: text in windows, or JSONL of prompts and responses.

`read_corpus` is the entry point. A step's batch depends on seed and step alone, so a checkpoint keeps only the step.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.jobs.errors import InvalidInput
from workers.layerskip.records import read_records
from workers.layerskip.tokenising import Tokens

IGNORED = -100  # target of positions without loss
HELD_OUT = 0.05  # of a text without eval_data

Ids = NDArray[np.int64]


class Batch(NamedTuple):
    """ids (batch, length); targets the next tokens, IGNORED where there is no loss."""

    ids: Tensor
    targets: Tensor


class Corpus(Protocol):
    """Something to draw batches from."""

    def drawn(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        """Random windows or examples."""

    def spread(self, most: int, length: int) -> list[Batch]:
        """At most so many windows or examples, evenly spread, each by itself: (1, length)."""

    def halves(self) -> "tuple[Corpus, Corpus]":
        """(training, held out): the last part is held out."""


@dataclass(frozen=True)
class Stream:
    """One text."""

    ids: Ids
    name: str

    def drawn(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        starts = rng.integers(0, len(self.ids) - length, batch)
        return _windows(self.ids, starts, length)

    def spread(self, most: int, length: int) -> list[Batch]:
        self.check(length)
        count = min(most, (len(self.ids) - 1) // length)
        starts = np.linspace(0, len(self.ids) - length - 1, count).astype(np.int64)
        return [_windows(self.ids, starts[number : number + 1], length) for number in range(count)]

    def halves(self) -> "tuple[Corpus, Corpus]":
        cut = len(self.ids) - max(1, int(HELD_OUT * len(self.ids)))
        return Stream(self.ids[:cut], self.name), Stream(self.ids[cut:], f"the held-out end of {self.name}")

    def check(self, length: int) -> None:
        """Raises InvalidInput for a text without a whole window."""
        if len(self.ids) < length + 1:
            raise InvalidInput(
                f"{self.name} has {len(self.ids)} tokens, a block takes {length + 1}; give a longer text or a smaller "
                "block size"
            )


@dataclass(frozen=True)
class Examples:
    """Prompts with responses, loss on the response; padded on the right, where causal attention doesn't look."""

    pairs: Sequence[tuple[Ids, Ids]]
    name: str

    def drawn(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        chosen = rng.integers(0, len(self.pairs), batch)
        return _padded([self.pairs[number] for number in chosen], length)

    def spread(self, most: int, length: int) -> list[Batch]:
        count = min(most, len(self.pairs))
        chosen = np.linspace(0, len(self.pairs) - 1, count).astype(np.int64)
        return [_padded([self.pairs[number]], length) for number in chosen]

    def halves(self) -> "tuple[Corpus, Corpus]":
        cut = len(self.pairs) - max(1, int(HELD_OUT * len(self.pairs)))
        if cut < 1:
            raise InvalidInput(f"{self.name} has one line only, none is left to hold out; give eval_data")
        return Examples(self.pairs[:cut], self.name), Examples(self.pairs[cut:], self.name)


def _windows(ids: Ids, starts: NDArray[np.int64], length: int) -> Batch:
    rows = np.stack([ids[start : start + length + 1] for start in starts])
    both = torch.from_numpy(rows)
    return Batch(both[:, :-1], both[:, 1:])


def _padded(pairs: Sequence[tuple[Ids, Ids]], length: int) -> Batch:
    longest = min(length, max(len(prompt) + len(response) for prompt, response in pairs) - 1)
    ids = torch.zeros(len(pairs), longest, dtype=torch.int64)
    targets = torch.full((len(pairs), longest), IGNORED)
    for row, (prompt, response) in enumerate(pairs):
        both = torch.from_numpy(np.concatenate((prompt, response)))[: longest + 1]
        ids[row, : len(both) - 1] = both[:-1]
        first = len(prompt) - 1
        targets[row, first : len(both) - 1] = both[first + 1 :]
    return Batch(ids, targets)


class Line(NamedTuple):
    """One line of JSONL."""

    prompt: str
    response: str


def read_lines(path: Path, name: str) -> list[Line]:
    """{prompt, response} a line. Raises InvalidInput naming the line."""
    lines = []
    for number, said in read_records(path, name):
        prompt, response = said.get("prompt"), said.get("response")
        if not isinstance(prompt, str) or not prompt:
            raise InvalidInput(f"{name} line {number} has no prompt; each line is an object {{prompt, response}}")
        if not isinstance(response, str) or not response:
            raise InvalidInput(f"{name} line {number} has no response; each line is an object {{prompt, response}}")
        lines.append(Line(prompt, response))
    return lines


def read_corpus(path: Path, name: str, tokens: Tokens, is_data: bool, loss_on: str, end: Sequence[int]) -> Corpus:
    """Text as one stream, or JSONL. Raises InvalidInput: not UTF-8, no lines, no responses."""
    if not is_data:
        return Stream(tokens.encode(_decoded(path, name)), name)
    lines = read_lines(path, name)
    if loss_on == "all":
        text = "".join(f"{line.prompt}\t{line.response}\n" for line in lines)
        return Stream(tokens.encode(text), name)
    closing = np.array(end[:1], np.int64)
    return Examples(
        [(tokens.encode(line.prompt), np.concatenate((tokens.encode(line.response), closing))) for line in lines],
        name,
    )


def looks_like_data(path: Path) -> bool:
    """Whether a file is JSONL of objects rather than text."""
    with path.open("rb") as handle:
        first = handle.readline(1 << 20).strip()
    if not first.startswith(b"{"):
        return False
    try:
        return "prompt" in json.loads(first)
    except ValueError:
        return False


def _decoded(path: Path, name: str) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{name} line {line} is not UTF-8; save the file as UTF-8") from None
