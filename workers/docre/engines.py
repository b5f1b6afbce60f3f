"""Opening the engine that Params name, in the job's process or in a shard's."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.endpoints import EndpointsError, find_endpoint, read_endpoints
from shared.jobs.catalog.docre.transfer import TransferParams
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.llm.model_folder import model_folder
from shared.llm.secrets import read_secret
from shared.settings import Settings
from workers.docre.translators import Translator
from workers.docre.translators.apertium import ApertiumTranslator
from workers.docre.translators.identity import IdentityTranslator

if TYPE_CHECKING:
    from workers.docre.translators.http import HttpTranslator


@dataclass(frozen=True)
class EngineSource:
    """What a shard's process needs to open a local engine."""

    backend: str
    source: str
    target: str
    timeout_s: float
    folder: str | None = None
    digest: str = ""

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def open(self) -> Translator:
        """The engine, fresh or warm in this process. Raises InvalidInput."""
        if self.backend == "apertium":
            return ApertiumTranslator(self.source, self.target, self.timeout_s)
        if self.backend == "identity":
            return IdentityTranslator()
        assert self.folder is not None
        if self.backend == "transformers":
            from workers.docre.translators.seq2seq import Seq2SeqTranslator  # torch and transformers: seconds

            return Seq2SeqTranslator(Path(self.folder), self.digest, self.source, self.target)
        from workers.docre.translators.ctranslate import CTranslate2Translator

        return CTranslate2Translator(Path(self.folder), self.digest, self.source, self.target)


def engine_source(params: TransferParams, ctx: JobContext) -> EngineSource:
    """Where the engine is opened from; a model reference is fetched. Raises InvalidInput."""
    folder = digest = None
    if params.backend == "transformers" and params.translator is not None:
        found = model_folder(params.translator, ctx, ctx.cache_dir / "models")
        folder, digest = str(found.path), found.digest
    elif params.backend == "ctranslate2" and params.translator is not None:
        path = converted_folder(params, ctx)
        folder, digest = str(path), ctx.input_digest(params.translator)
    return EngineSource(params.backend, params.source_lang, params.target_lang, params.timeout_s, folder, digest or "")


def converted_folder(params: TransferParams, ctx: JobContext) -> Path:
    """A CTranslate2 folder, unpacked where it is a tar. Raises InvalidInput."""
    from workers.docre.packing import unpacked

    assert params.translator is not None
    source = ctx.input(params.translator)
    folder = source if source.is_dir() else unpacked(source, ctx.cache_dir / "docre" / "models", str(params.translator))
    if not (folder / "model.bin").is_file():
        raise InvalidInput(
            f"translator: {params.translator} holds no model.bin; convert it with ct2-transformers-converter"
        )
    return folder


def open_http(params: TransferParams, ctx: JobContext, settings: Settings) -> "HttpTranslator":
    """The endpoint's translator. Raises InvalidInput."""
    from workers.docre.translators.http import HttpTranslator, Languages  # httpx: shards' processes need none

    assert params.translator is not None
    name = params.translator.target.partition("/")[0]
    try:
        entry = find_endpoint(read_endpoints(settings.endpoints), name)
    except EndpointsError as error:
        raise InvalidInput(f"translator: {params.translator}: {error}") from None
    if entry.protocol == "openai":
        raise InvalidInput(f"translator: endpoint {name} speaks openai; a translator speaks libretranslate or deepl")
    secret = read_secret(entry.secret, settings.secrets, f"endpoint {name}") if entry.secret else None
    return HttpTranslator(entry, secret, Languages(params.source_lang, params.target_lang), ctx, params.retries)
