"""Opening the models that a job's Params name: everything that can be refused is refused before work starts."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from shared.endpoints import EndpointsError, find_endpoint, read_endpoints
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.llm.chat import ChatModel
from shared.settings import Settings

LOCAL_SCHEMES = ("hub", "file", "job", "builtin")


@asynccontextmanager
async def open_models(
    refs: Iterable[Ref], ctx: JobContext, settings: Settings
) -> AsyncIterator[Mapping[Ref, ChatModel]]:
    """Every model by its reference, for as long as the block runs. Raises InvalidInput.

    `endpoint:<name>/<model>`: all models of one endpoint share its connections and limits.
    `hub:`, `file:`, `job:`, `builtin:`: a local model, kept warm in this process.
    """
    wanted = sorted(set(refs))
    async with AsyncExitStack() as stack:
        yield {**await _open_endpoints(wanted, settings, stack), **await _open_local(wanted, ctx, settings, stack)}


async def _open_endpoints(refs: list[Ref], settings: Settings, stack: AsyncExitStack) -> dict[Ref, ChatModel]:
    from shared.llm.http import HttpEndpoint

    opened: dict[str, HttpEndpoint] = {}
    models: dict[Ref, ChatModel] = {}
    for ref in refs:
        if ref.scheme != "endpoint":
            continue
        name, _, model = ref.target.partition("/")
        if name not in opened:
            try:
                entry = find_endpoint(read_endpoints(settings.endpoints), name)
            except EndpointsError as error:
                raise InvalidInput(f"{ref}: {error}") from None
            opened[name] = await stack.enter_async_context(HttpEndpoint(name, entry, settings.secrets))
        models[ref] = opened[name].chat(model)
    return models


async def _open_local(
    refs: list[Ref], ctx: JobContext, settings: Settings, stack: AsyncExitStack
) -> dict[Ref, ChatModel]:
    models: dict[Ref, ChatModel] = {}
    for ref in refs:
        if ref.scheme in LOCAL_SCHEMES:
            from shared.llm.local import LocalChat  # torch and transformers: seconds

            models[ref] = await stack.enter_async_context(LocalChat.open(ref, ctx, settings))
        elif ref.scheme != "endpoint":
            raise InvalidInput(f"{ref} names no model")
    return models
