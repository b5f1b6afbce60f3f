"""A causal language model in this process, answering the calls of all agents and runs in shared batches."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput, Permanent
from shared.jobs.references import Ref
from shared.llm.chat import ChatCall, Reply
from shared.llm.generation import Row, generate
from shared.llm.model_cache import ModelCache, ModelKey
from shared.llm.model_folder import ModelFolder, model_folder
from shared.settings import Settings

MOST_ROWS = 64
GATHER_S = 0.002  # agents that speak together arrive within one turn of the event loop
MEGABYTE = 2**20

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class LoadedModel:
    """Weights and tokenizer of one folder, on one device."""

    model: Any  # a transformers PreTrainedModel
    tokenizer: Any
    ends: frozenset[int]
    context: int | None  # tokens of prompt and reply together; None: no limit

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.model.parameters(), *self.model.buffers()))

    def encode(self, call: ChatCall) -> list[int]:
        """The prompt's tokens by the model's chat template. Raises Permanent."""
        turns = [{"role": message.role, "content": message.content} for message in call.messages]
        try:
            text = self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=not call.continues,
                continue_final_message=call.continues,
            )
        except (TemplateError, ValueError) as error:
            raise Permanent(f"the model's chat template refuses call {call.key}: {error}") from None
        prompt: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if self.context is not None and len(prompt) >= self.context:
            raise Permanent(
                f"call {call.key} is {len(prompt)} tokens long, more than the model's context of {self.context}"
            )
        return prompt

    def row(self, call: ChatCall) -> Row:
        """The call as a row of a batch. Raises Permanent."""
        prompt = self.encode(call)
        most = min(call.max_tokens, self.context - len(prompt)) if self.context else call.max_tokens
        return Row(call, prompt, most, partial(self.tokenizer.decode, skip_special_tokens=True), self.ends)


loaded_models: ModelCache[LoadedModel] = ModelCache(lambda loaded: loaded.bytes)
_computing = threading.Lock()  # batches of several models take turns on the device


class _Waiting(NamedTuple):
    call: ChatCall
    reply: asyncio.Future[Reply]


class LocalChat:
    """A ChatModel over a loaded model. An async context manager: calls are answered inside its block."""

    prefill = True

    def __init__(self, loaded: LoadedModel, most_rows: int = MOST_ROWS) -> None:
        self.loaded, self._most_rows = loaded, most_rows
        self._waiting: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._stopping = threading.Event()
        self.batches: list[int] = []
        """Rows of every batch so far."""

    @classmethod
    def open(cls, ref: Ref, ctx: JobContext, settings: Settings) -> "LocalChat":
        """The model behind a reference, loaded or still warm. Raises InvalidInput."""
        return cls(load_model(ref, ctx, settings))

    @classmethod
    def load(cls, checked: "CheckedFolder", settings: Settings) -> "LocalChat":
        """The model in a folder, loaded or still warm. Raises InvalidInput."""
        return cls(_load_checked(checked, settings))

    async def __aenter__(self) -> Self:
        self._server = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopping.set()
        self._waiting.put_nowait(None)
        await self._server

    async def reply(self, call: ChatCall) -> Reply:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Waiting(call, future))
        return await future

    async def _serve(self) -> None:
        """Gather what waits into a batch, generate it in a thread, and again."""
        while True:
            first = await self._waiting.get()
            await asyncio.sleep(GATHER_S)
            batch = [first]
            while len(batch) < self._most_rows and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            wanted = [entry for entry in batch if entry is not None and not entry.reply.done()]
            if wanted and not self._stopping.is_set():
                await self._answer(wanted)
            if self._stopping.is_set():
                for entry in wanted:
                    entry.reply.cancel()
                return

    async def _answer(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        try:
            rows = self._rows(batch)
            if rows:
                self.batches.append(len(rows))
                await asyncio.to_thread(self._generate, rows, loop.call_soon_threadsafe)
        except torch.OutOfMemoryError as error:
            await self._answer_in_halves(batch, error)
        except Exception as error:  # whatever the model raises is the callers' to see, not this task's
            for entry in batch:
                _settle(entry.reply, error)

    async def _answer_in_halves(self, batch: list[_Waiting], error: torch.OutOfMemoryError) -> None:
        open_ = [entry for entry in batch if not entry.reply.done()]
        if len(open_) < 2:
            for entry in open_:
                _settle(entry.reply, Permanent(f"call {entry.call.key} doesn't fit the device's memory: {error}"))
            return
        half = len(open_) // 2
        self._most_rows = min(self._most_rows, half)
        await self._answer(open_[:half])
        await self._answer(open_[half:])

    def _rows(self, batch: list[_Waiting]) -> list[tuple[Row, asyncio.Future[Reply]]]:
        rows = []
        for entry in batch:
            try:
                rows.append((self.loaded.row(entry.call), entry.reply))
            except Permanent as refusal:
                _settle(entry.reply, refusal)
        return rows

    def _generate(self, rows: list[tuple[Row, asyncio.Future[Reply]]], soon: Callable[..., object]) -> None:
        """In a thread of its own: the event loop stays free for the job's checks."""
        futures = {id(row): future for row, future in rows}

        def done(row: Row, reply: Reply) -> None:
            soon(_settle, futures[id(row)], reply)

        def is_wanted(row: Row) -> bool:
            return not (self._stopping.is_set() or futures[id(row)].cancelled())

        with _computing:
            generate(self.loaded.model, [row for row, _ in rows], done, is_wanted)


def _settle(future: asyncio.Future[Reply], outcome: Reply | Exception) -> None:
    if future.done():  # its caller went away
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def load_model(ref: Ref, ctx: JobContext, settings: Settings, dtype: str | None = None) -> LoadedModel:
    """The model behind a reference, loaded or still warm; by default bfloat16 on a GPU that has it, else float32.
    Raises InvalidInput."""
    return _load_checked(check_folder(ref, ctx, settings), settings, dtype)


def _load_checked(checked: "CheckedFolder", settings: Settings, dtype: str | None = None) -> LoadedModel:
    ref, folder = checked
    device = "cuda" if torch.cuda.is_available() else "cpu"
    best = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    key = ModelKey(folder.digest, dtype or best, device)
    load = partial(_load, ref, folder.path, key.dtype, device)
    return loaded_models.get(key, load, settings.model_cache_mb * MEGABYTE)


class CheckedFolder(NamedTuple):
    """A folder that holds a model to chat with, as far as one can tell without loading it."""

    ref: Ref
    folder: ModelFolder


def check_folder(ref: Ref, ctx: JobContext, settings: Settings) -> CheckedFolder:
    """The folder behind a reference, with its tokenizer and chat template. Raises InvalidInput."""
    folder = model_folder(ref, ctx, settings.data.resolve() / "cache" / "models")
    try:
        _tokenizer(ref, folder.path)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise InvalidInput(f"{ref} can't be loaded as a causal language model: {error}") from error
    return CheckedFolder(ref, folder)


def _tokenizer(ref: Ref, folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if not tokenizer.chat_template:
        raise InvalidInput(
            f"{ref} has no chat template: take a model tuned for chat, or put chat_template.jinja into its folder"
        )
    return tokenizer


def _load(ref: Ref, folder: Path, dtype: str, device: str) -> LoadedModel:
    load: Any = AutoModelForCausalLM.from_pretrained  # its types know nothing of output_loading_info
    try:
        tokenizer = _tokenizer(ref, folder)
        model, found = load(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise InvalidInput(f"{ref} can't be loaded as a causal language model: {error}") from error
    if found["missing_keys"]:  # transformers would draw them at random
        missing = ", ".join(sorted(found["missing_keys"])[:5])
        raise InvalidInput(f"{ref} lacks {len(found['missing_keys'])} of its weights, among them {missing}")
    model.to(device).eval()
    return LoadedModel(model, tokenizer, _ends(model, tokenizer), _context(model))


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a reply, by the generation config and the tokenizer."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)


def _context(model: Any) -> int | None:
    context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return context
