"""A server, an endpoints file that names it, and models opened over both."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.llm.chat import ChatCall, ChatModel, Message
from shared.llm.models import open_models
from shared.settings import Settings
from tests.openai_server import OpenAIServer

LAB = Ref("endpoint:lab/some-model")
Opened = Callable[..., AbstractAsyncContextManager[ChatModel]]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(lambda request: f"Answer to {request.prompt}") as server:
        yield server


@pytest.fixture
def opened(server: OpenAIServer, tmp_path: Path) -> Opened:
    """The model `endpoint:lab/some-model` on the test's server, with the entry's other fields as given."""

    @asynccontextmanager
    async def open_lab(ref: Ref = LAB, **entry: Any) -> AsyncIterator[ChatModel]:
        settings = settings_with(tmp_path, {"lab": {"base_url": server.url, **entry}})
        context = LocalContext(tmp_path / "out")
        async with open_models([ref], context, settings) as models:
            yield models[ref]
        context.close()

    return open_lab


def settings_with(folder: Path, endpoints: dict[str, Any]) -> Settings:
    """Settings whose endpoints file holds these entries, and whose secrets lie in `secrets`."""
    file = folder / "endpoints.json"
    file.write_text(json.dumps(endpoints))
    return Settings(data=folder / "data", endpoints=file, secrets=folder / "secrets")


def call(key: str = "run0/month1/harvest/agent0", text: str = "How many?", **changes: Any) -> ChatCall:
    """A call with ordinary sampling."""
    terms: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 16, "seed": 7} | changes
    return ChatCall(key, (Message("user", text),), **terms)
