"""Which candidates survive as text: decoded and put into the whole conversation, they must encode to the same tokens.

Stricter than the official check: for every prompt (its border may merge differently) and with all other parts
unchanged. Answers are kept by (token before, suffix, token after).
"""

from collections.abc import Sequence

from workers.dsn.conversation import Chat, Conversation

KEPT_ANSWERS = 50_000  # then the memory is emptied: candidates rarely come back after a few steps
Borders = tuple[int | None, int | None]


class Reachability:
    """Filters candidates for a fixed set of prompts."""

    def __init__(self, chat: Chat, conversations: Sequence[Conversation]) -> None:
        self._chat = chat
        self._prompts: dict[Borders, Conversation] = {}
        for conversation in conversations:
            self._prompts.setdefault(_borders(conversation), conversation)
        self._answers: dict[tuple[Borders, tuple[int, ...]], bool] = {}

    def __str__(self) -> str:
        return self._chat.name

    def reachable(self, candidates: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Those that re-encode to themselves behind every prompt, in order."""
        for borders, conversation in self._prompts.items():
            candidates = self._survivors(borders, conversation, candidates)
        return list(candidates)

    def _survivors(
        self, borders: Borders, conversation: Conversation, candidates: Sequence[tuple[int, ...]]
    ) -> list[tuple[int, ...]]:
        unknown = [candidate for candidate in candidates if (borders, candidate) not in self._answers]
        if unknown:
            self._ask(borders, conversation, unknown)
        kept = [candidate for candidate in candidates if self._answers[borders, candidate]]
        if len(self._answers) > KEPT_ANSWERS:
            self._answers.clear()
        return kept

    def _ask(self, borders: Borders, conversation: Conversation, candidates: Sequence[tuple[int, ...]]) -> None:
        tokenizer, parts = self._chat.tokenizer, conversation.parts
        decoded = tokenizer.batch_decode([list(c) for c in candidates], clean_up_tokenization_spaces=False)
        texts = [f"{parts.head}{text.strip()}{parts.tail}" for text in decoded]
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        end = [*conversation.after, *conversation.target]
        for candidate, ids in zip(candidates, encoded, strict=True):
            self._answers[borders, candidate] = ids == [*conversation.before, *candidate, *end]


def _borders(conversation: Conversation) -> Borders:
    end = (*conversation.after, *conversation.target)
    return conversation.before[-1] if conversation.before else None, end[0]
