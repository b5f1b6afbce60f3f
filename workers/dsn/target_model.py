"""The model under test: tokenizer and length checks first, weights only once everything else is in order."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from shared.jobs.context import JobContext, digest_of
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.llm.model_folder import model_folder
from shared.settings import Settings
from workers.dsn.candidates import forbidden_tokens
from workers.dsn.conversation import Chat, Conversation


@dataclass(frozen=True)
class TargetModel:
    """A causal language model with a chat template, on this machine: `allowed:<name>`."""

    ref: Ref
    chat: Chat
    tokenizer_digest: str
    context: int | None  # tokens
    ctx: JobContext
    settings: Settings
    dtype: str | None = None

    @classmethod
    def open(cls, ref: Ref, ctx: JobContext, settings: Settings, dtype: str | None = None) -> "TargetModel":
        """Raises InvalidInput: not on the list, other weights than were allowed, no chat template."""
        folder = model_folder(ref, ctx, settings.data.resolve() / "cache" / "models")
        tokenizer, config = _read(ref, folder.path)
        context: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
        chat = Chat(tokenizer, str(ref))  # refuses a tokenizer without tokenizer.json
        return cls(ref, chat, digest_of(folder.path / "tokenizer.json")[0], context, ctx, settings, dtype)

    @cached_property
    def loaded(self) -> Any:
        """The weights, loaded at first use and kept warm."""
        from shared.llm.local import load_model

        loaded = load_model(self.ref, self.ctx, self.settings, self.dtype)
        loaded.model.requires_grad_(False)
        return loaded

    @property
    def model(self) -> Any:
        return self.loaded.model

    def check_length(self, conversation: Conversation, new_tokens: int, what: str) -> None:
        """Raises InvalidInput where prompt and answer don't fit the context."""
        prompt = len(conversation.ids) - len(conversation.target)
        longest = max(len(conversation.ids), prompt + new_tokens)
        if self.context is not None and longest > self.context:
            raise InvalidInput(
                f"{what}: {prompt} tokens of prompt, {len(conversation.target)} of target and up to {new_tokens} of "
                f"answer don't fit the context of {self.context} of {self.ref}; shorten the target or "
                "eval_max_new_tokens"
            )

    def check_room(self, prompt: int, new_tokens: int, what: str) -> None:
        """Raises InvalidInput where a prompt of so many tokens leaves no room for an answer."""
        if self.context is not None and prompt + new_tokens > self.context:
            raise InvalidInput(
                f"{what}: {prompt} tokens and up to {new_tokens} of answer don't fit the context of {self.context} of "
                f"{self.ref}; shorten it or eval_max_new_tokens"
            )

    def forbidden(self, *, allow_non_ascii: bool) -> Tensor:
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        return forbidden_tokens(self.chat.tokenizer, vocabulary, allow_non_ascii=allow_non_ascii)


def _read(ref: Ref, folder: Path) -> tuple[Any, Any]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return tokenizer, AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"{ref}: tokenizer or configuration can't be read: {error}") from None
