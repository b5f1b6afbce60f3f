"""A model that is a function of the call: scripted replies for tests and tours."""

from collections.abc import Callable

from shared.llm.chat import ChatCall, Reply


class ScriptedChat:
    """Answers with `script(call)`. Tokens are counted as words, as there is no tokenizer."""

    prefill = True

    def __init__(self, script: Callable[[ChatCall], str]) -> None:
        self._script = script

    async def reply(self, call: ChatCall) -> Reply:
        text = self._script(call)
        tokens_in = sum(len(message.content.split()) for message in call.messages)
        return Reply(text, tokens_in, len(text.split()), "stop")
