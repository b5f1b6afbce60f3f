"""What a method asks of a language model, and what it gets: `ChatModel.reply(ChatCall) -> Reply`."""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

CALL_KEY = re.compile(r"[A-Za-z0-9/._-]{1,400}\Z")


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class ChatCall:
    """One request. `key` names it within its job for ever: `run3/month2/harvest/agent1`.

    A last message of the assistant is continued (prefill); only for a model whose `prefill` is true.
    """

    key: str
    messages: tuple[Message, ...]
    temperature: float  # 0 is greedy
    top_p: float
    max_tokens: int
    seed: int
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not CALL_KEY.match(self.key):
            raise ValueError(f"call key {self.key!r} must match {CALL_KEY.pattern}")
        if not self.messages:
            raise ValueError(f"call {self.key} has no messages")

    @property
    def continues(self) -> bool:
        """Whether the model is to go on from a message that the assistant began."""
        return self.messages[-1].role == "assistant"


@dataclass(frozen=True)
class Reply:
    """What the model said. Token counts are the back end's own; 0 where a server reports none."""

    text: str
    tokens_in: int
    tokens_out: int
    finish_reason: str  # "stop", "length" (cut off at max_tokens), or the server's own word


class ChatModel(Protocol):
    """Anything that answers a call: an endpoint, a local model, a script."""

    @property
    def prefill(self) -> bool:
        """Whether a call may end with an assistant message to be continued."""
        ...

    async def reply(self, call: ChatCall) -> Reply:
        """Raises Retryable when the model can't be reached for now, Permanent when it refuses the call."""
        ...
