"""Where suffix and target lie in a conversation's tokens: `Chat.conversation(goal, suffix, target)`.

`ids = [before | c | after | t]`, cut right after the last target token. Slices come from tokenising the *whole* text
and locating the parts by their characters: pieces that are tokenised by themselves may merge differently.

Template pitfalls handled here: a BOS in the template and another from the tokenizer (special tokens are never added
twice), templates that put a space or a newline before the answer, that strip the user's text, that rewrite it
(refused), that add a thinking block to finished answers, or that glue their own text to the suffix (refused).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2 import TemplateError

from shared.jobs.errors import InvalidInput

SEPARATOR = " "


class Parts(NamedTuple):
    """The text around the suffix; `head + suffix + tail` is the whole conversation up to the target's end."""

    head: str
    tail: str


@dataclass(frozen=True)
class Conversation:
    """One prompt with its suffix c (L tokens) and target t (T tokens)."""

    before: tuple[int, ...]
    suffix: tuple[int, ...]
    after: tuple[int, ...]
    target: tuple[int, ...]
    parts: Parts

    @property
    def ids(self) -> tuple[int, ...]:
        return (*self.before, *self.suffix, *self.after, *self.target)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Prompts of one shape can share a batch without padding."""
        return len(self.before), len(self.after), len(self.target)


class Chat:
    """A tokenizer with its chat template."""

    def __init__(self, tokenizer: Any, name: str = "the model") -> None:
        if not tokenizer.chat_template:
            raise InvalidInput(f"{name} has no chat template: take a chat model, or put chat_template.jinja beside it")
        if not tokenizer.is_fast:
            raise InvalidInput(f"{name} has no fast tokenizer (tokenizer.json), which locating the suffix needs")
        self.tokenizer, self.name = tokenizer, name

    def prompt(self, user: str) -> list[int]:
        """The tokens that a reply to this message follows."""
        return self._encode(self._render([("user", user)], for_answer=True))

    def message(self, goal: str, suffix: str) -> str:
        return f"{goal}{SEPARATOR}{suffix}" if suffix else goal

    def decode(self, ids: tuple[int, ...] | list[int]) -> str:
        """A suffix as text; what re-encoding must give back."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text.strip()

    def conversation(self, goal: str, suffix: str, target: str) -> Conversation:
        """Raises InvalidInput where the template leaves no way to tell the parts apart."""
        user = self.message(goal, suffix)
        text, suffix_at, target_at = self._text(user, len(suffix), target)
        spans = (suffix_at, suffix_at + len(suffix), target_at)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        regions: tuple[list[int], ...] = ([], [], [], [])
        for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            self._refuse_glued(text, start, end, spans)
            regions[sum(end > border for border in spans)].append(token)
        before, inside, after, answer = (tuple(region) for region in regions)
        if not inside or not answer:
            raise InvalidInput(
                f"{self.name}: suffix {len(inside)} and target {len(answer)} tokens; both must have some"
            )
        parts = Parts(text[:suffix_at], text[suffix_at + len(suffix) :])
        return Conversation(before, inside, after, answer, parts)

    def _text(self, user: str, suffix_length: int, target: str) -> tuple[str, int, int]:
        """(the conversation up to the target's end, where the suffix begins, where the target does)."""
        opened = self._render([("user", user)], for_answer=True)
        user_at = opened.rfind(user)
        if user_at < 0:
            raise InvalidInput(f"the chat template of {self.name} rewrites the user's text; it can't be located in it")
        suffix_at = user_at + len(user) - suffix_length
        answered = self._answered(user, target)
        if answered is None or not answered.startswith(opened):
            return opened + target, suffix_at, len(opened)  # e.g. a thinking block that only finished answers have
        target_at = answered.find(target, len(opened))
        if target_at < 0 or answered[len(opened) : target_at].strip():
            return opened + target, suffix_at, len(opened)
        return answered[: target_at + len(target)], suffix_at, target_at

    def _answered(self, user: str, target: str) -> str | None:
        try:
            return self._render([("user", user), ("assistant", target)], for_answer=False)
        except InvalidInput:  # a template for prompts only
            return None

    def _refuse_glued(self, text: str, start: int, end: int, borders: tuple[int, ...]) -> None:
        for border in borders:
            if start < border < end and text[start:border].strip():
                raise InvalidInput(
                    f"the tokenizer of {self.name} merges {text[start:end]!r} across the suffix's or target's border; "
                    "choose another suffix_init or target"
                )
        if start < borders[1] < end:
            raise InvalidInput(
                f"the tokenizer of {self.name} merges the suffix with what its template puts after it "
                f"({text[start:end]!r}); choose another suffix_init"
            )

    def _render(self, turns: list[tuple[str, str]], *, for_answer: bool) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            text: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=for_answer)
        except (TemplateError, ValueError) as error:
            raise InvalidInput(f"the chat template of {self.name} refuses a user's turn: {error}") from None
        return text

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
