"""Opening the models that a job's Params name: everything that can be refused is refused before work starts."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.endpoints import EndpointsError, find_endpoint, read_endpoints
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from shared.llm.chat import ChatModel
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.llm.http import HttpEndpoint
    from shared.llm.local import CheckedFolder

LOCAL_SCHEMES = ("hub", "file", "job", "builtin")


@dataclass(frozen=True)
class CheckedModels:
    """Models that can be had; no weights are loaded yet. `open` makes them ready."""

    _endpoints: Mapping[str, "HttpEndpoint"]
    _remote: Mapping[Ref, ChatModel]
    _local: Mapping[Ref, "CheckedFolder"]
    _settings: Settings

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Mapping[Ref, ChatModel]]:
        """Every model by its reference, for as long as the block runs. Raises InvalidInput where weights are broken."""
        async with AsyncExitStack() as stack:
            for endpoint in self._endpoints.values():
                await stack.enter_async_context(endpoint)
            local: dict[Ref, ChatModel] = {}
            for ref, folder in self._local.items():
                from shared.llm.local import LocalChat

                local[ref] = await stack.enter_async_context(LocalChat.load(folder, self._settings))
            yield {**self._remote, **local}


def check_models(refs: Iterable[Ref], ctx: JobContext, settings: Settings) -> CheckedModels:
    """Look every model up before any of them is loaded: endpoint and secret, folder and chat template.

    `endpoint:<name>/<model>`: all models of one endpoint share its connections and limits.
    `hub:`, `file:`, `job:`, `builtin:`: a local model, kept warm in this process. Raises InvalidInput.
    """
    wanted = sorted(set(refs))
    endpoints, remote = _check_endpoints(wanted, settings)
    return CheckedModels(endpoints, remote, _check_local(wanted, ctx, settings), settings)


@asynccontextmanager
async def open_models(
    refs: Iterable[Ref], ctx: JobContext, settings: Settings
) -> AsyncIterator[Mapping[Ref, ChatModel]]:
    """`check_models`, opened at once: for who has nothing else to check. Raises InvalidInput."""
    async with check_models(refs, ctx, settings).open() as models:
        yield models


def _check_endpoints(refs: list[Ref], settings: Settings) -> tuple[dict[str, "HttpEndpoint"], dict[Ref, ChatModel]]:
    from shared.llm.http import HttpEndpoint

    found: dict[str, HttpEndpoint] = {}
    models: dict[Ref, ChatModel] = {}
    for ref in refs:
        if ref.scheme != "endpoint":
            continue
        name, _, model = ref.target.partition("/")
        if name not in found:
            try:
                entry = find_endpoint(read_endpoints(settings.endpoints), name)
            except EndpointsError as error:
                raise InvalidInput(f"{ref}: {error}") from None
            found[name] = HttpEndpoint(name, entry, settings.secrets)
        models[ref] = found[name].chat(model)
    return found, models


def _check_local(refs: list[Ref], ctx: JobContext, settings: Settings) -> dict[Ref, "CheckedFolder"]:
    folders: dict[Ref, CheckedFolder] = {}
    for ref in refs:
        if ref.scheme in LOCAL_SCHEMES:
            from shared.llm.local import check_folder  # torch and transformers: seconds

            folders[ref] = check_folder(ref, ctx, settings)
        elif ref.scheme != "endpoint":
            raise InvalidInput(f"{ref} names no model")
    return folders
