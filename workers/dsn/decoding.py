"""Greedy answers, whatever the model's generation config says: two evaluations of one suffix are the same."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from shared.llm.chat import ChatCall, Message, Reply
from shared.llm.generation import Row, generate
from workers.dsn.memory import halved

Checked = Callable[[], None]


class Decoder:
    """Decodes prompts in batches, padded on the left; batches halve when memory runs out."""

    def __init__(self, loaded: Any, max_new_tokens: int, check: Checked, batch: int = 64) -> None:
        self._loaded, self._max, self._check, self._batch = loaded, max_new_tokens, check, batch
        self.tokens = 0
        """Generated so far."""

    def answers(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        """One greedy answer per prompt, in order."""
        found: list[str] = []
        while len(found) < len(prompts):
            self._check()
            some = prompts[len(found) : len(found) + self._batch]
            try:
                found += self._some(some)
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                self._batch = halved(len(some), error)
        return found

    def _some(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        decode = partial(self._loaded.tokenizer.decode, skip_special_tokens=True)
        rows = [Row(_greedy(number, self._max), list(ids), self._room(ids), decode, self._loaded.ends)
                for number, ids in enumerate(prompts)]  # fmt: skip
        answers: dict[str, str] = {}

        def done(row: Row, reply: Reply) -> None:
            answers[row.call.key] = reply.text
            self.tokens += reply.tokens_out

        generate(self._loaded.model, rows, done, lambda row: True)
        return [answers[row.call.key] for row in rows]

    def _room(self, ids: Sequence[int]) -> int:
        context = self._loaded.context
        return max(1, min(self._max, context - len(ids))) if context else self._max


def _greedy(number: int, most: int) -> ChatCall:
    return ChatCall(f"row{number}", (Message("user", "-"),), 0.0, 1.0, most, 0)
