"""What comes of one prompt: its tokens, why it ended, and what it took."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from workers.layerskip.tokenising import Tokens

Finish = Literal["eos", "stop", "length", "context"]


class Step(NamedTuple):
    """One verification: exit layer, tokens drafted, drafts that stood."""

    exit_layer: int
    drafted: int
    accepted: int


@dataclass(frozen=True)
class Stopping:
    """When an answer is over."""

    max_new_tokens: int
    ends: frozenset[int] = frozenset()
    words: tuple[str, ...] = ()


@dataclass
class Answer:
    """A prompt being answered. `committed` never takes a token back."""

    prompt: Sequence[int]
    limit: int  # most new tokens
    stopping: Stopping
    tokens: Tokens | None = None
    emitted: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    finish: Finish | None = None
    text: str | None = None
    uncut: int = 0  # tokens emitted before cutting at an end
    layer_calls: int = 0
    layer_tokens: int = 0
    host_syncs: int = 0

    @property
    def history(self) -> list[int]:
        """Prompt and what was emitted."""
        return [*self.prompt, *self.emitted]

    @property
    def left(self) -> int:
        return self.limit - len(self.emitted)

    def commit(self, new: Sequence[int]) -> list[int]:
        """Take tokens, up to an end token, a stop word or the limit; returns those that count."""
        before = len(self.emitted)
        self.uncut += len(new)
        for token in new:
            if token in self.stopping.ends:
                self.finish = "eos"
                break
            self.emitted.append(token)
            if self.stopping.words and self._cut_at_a_word():
                break
            if len(self.emitted) >= self.limit:
                self.finish = "length" if self.limit == self.stopping.max_new_tokens else "context"
                break
        return self.emitted[before:]

    def _cut_at_a_word(self) -> bool:
        """Cut text and tokens where the first stop word begins."""
        assert self.tokens is not None
        text = self.tokens.decode(self.emitted)
        places = [at for word in self.stopping.words if (at := text.find(word)) >= 0]
        if not places:
            return False
        self.text, self.finish = text[: min(places)], "stop"
        while self.emitted and not self.text.startswith(self.tokens.decode(self.emitted)):
            self.emitted.pop()
        return True

    @property
    def drafted(self) -> int:
        return sum(step.drafted for step in self.steps)

    @property
    def accepted(self) -> int:
        return sum(step.accepted for step in self.steps)

    def ran(self, layers: int, rows: int) -> None:
        """Count a call of some layers on some rows."""
        self.layer_calls += layers
        self.layer_tokens += layers * rows
