"""Models behind an OpenAI-compatible `/chat/completions`, over one pool of connections per endpoint.

At most `max_in_flight` requests at once; no more than `requests_per_minute`, repeated ones included. A call whose
request fails for a passing reason (429, 5xx, no connection, timeout, an answer that can't be read) is sent again after
a growing wait, or when the server's `Retry-After` says; when its budget is used up the job fails for now (Retryable).
Any other refusal is the caller's (Permanent), with the server's own words.
"""

import asyncio
import html
import json
import random
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.request import getproxies, proxy_bypass

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from shared.endpoints import Endpoint
from shared.jobs.errors import InvalidInput, Permanent, Retryable
from shared.llm.chat import ChatCall, Reply
from shared.llm.pace import Pace, retry_after, wait_before_retry
from shared.llm.secrets import read_secret

CALL_HEADER = "X-Tenfold-Call"
CONNECT_S = 10.0
PASSING = frozenset({408, 425, 429})
MESSAGE_CHARS = 300


class _Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: str | None


class _Failure(NamedTuple):
    """A request that may succeed when sent again."""

    reason: str
    after_s: float | None = None  # what the server asks to wait


class _Message(BaseModel):
    content: str | None  # null or blank where all tokens went into reasoning: the caller's to judge


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    """What we read of a chat completion; servers send more."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class HttpEndpoint:
    """One entry of TENFOLD_ENDPOINTS, open: its connections, limits and key. An async context manager."""

    def __init__(self, name: str, entry: Endpoint, secrets: Path | None) -> None:
        if entry.protocol != "openai":
            raise InvalidInput(f"endpoint {name} speaks {entry.protocol}: a chat model needs protocol openai")
        self.name, self.entry = name, entry
        self._secret = read_secret(entry.secret, secrets, f"endpoint {name}") if entry.secret else None
        self._in_flight = asyncio.Semaphore(entry.max_in_flight)
        self.slots = asyncio.Semaphore(entry.max_in_flight)
        """For who stores replies: calls that are asked and not yet stored."""
        self._pace = Pace(entry.requests_per_minute)

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.entry.max_in_flight),
            headers=self._secret.authorization() if self._secret else {},
            timeout=aiohttp.ClientTimeout(self.entry.timeout_s, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(self.entry),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()

    def chat(self, model: str) -> "HttpChat":
        """A model of this endpoint."""
        return HttpChat(self, model)

    async def complete(self, call: ChatCall, body: dict[str, Any]) -> Reply:
        """Send until there is an answer or the budget is used up."""
        tried, waited_s = 0, 0.0
        while True:
            outcome = await self._send(call, body)
            if isinstance(outcome, Reply):
                return outcome
            jitter = random.Random(f"{call.seed} {call.key} {tried}")
            tried += 1
            wait_s = max(wait_before_retry(tried, jitter), outcome.after_s or 0.0)
            waited_s += wait_s
            if tried == self.entry.tries or waited_s > self.entry.retry_budget_s:
                raise Retryable(
                    f"endpoint {self.name} gave no answer to call {call.key} in {tried} requests: {outcome.reason}"
                )
            self._pace.pause(outcome.after_s or 0.0)
            await asyncio.sleep(wait_s)

    async def _send(self, call: ChatCall, body: dict[str, Any]) -> Reply | _Failure:
        async with self._in_flight:
            await self._pace.turn()
            try:
                answer = await self._post(json.dumps(body).encode(), call.key)
            except TimeoutError:
                return _Failure(f"no answer within {self.entry.timeout_s:g} s")
            except aiohttp.ClientError as error:
                return _Failure(f"{type(error).__name__}: {self._words(str(error))}")
        return self._read(answer, call)

    async def _post(self, body: bytes, key: str) -> _Answer:
        headers = {"Content-Type": "application/json", CALL_HEADER: key}
        url = f"{self.entry.url}/chat/completions"
        # A redirect would carry the key to where the operator's file doesn't say.
        async with self._client.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return _Answer(response.status, await response.read(), response.headers.get("Retry-After"))

    def _read(self, answer: _Answer, call: ChatCall) -> Reply | _Failure:
        if answer.status in PASSING or answer.status >= 500:
            return _Failure(f"{answer.status} {self._message(answer)}", retry_after(answer.retry_after))
        if answer.status != HTTPStatus.OK:
            raise Permanent(
                f"endpoint {self.name} answered {answer.status} to call {call.key}: {self._message(answer)}"
            )
        try:
            completion = _Completion.model_validate_json(answer.body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            at = ".".join(map(str, first["loc"]))
            return _Failure(f"an answer that is no chat completion ({at + ': ' if at else ''}{first['msg']})")
        choice, usage = completion.choices[0], completion.usage or _Usage()
        return Reply(
            choice.message.content or "", usage.prompt_tokens, usage.completion_tokens, choice.finish_reason or "stop"
        )

    def _message(self, answer: _Answer) -> str:
        """The server's own words about a refusal, fit to be shown."""
        try:
            said = json.loads(answer.body)
            error = said.get("error", said)
            text = str(error.get("message") or error.get("detail") or error) if isinstance(error, dict) else str(error)
        except (ValueError, AttributeError):
            text = answer.body.decode(errors="replace")
        return self._words(text)

    def _words(self, text: str) -> str:
        """Someone else's text: without the key, on one line, short, with nothing that a page would obey."""
        hidden = self._secret.hide(text) if self._secret else text
        line = " ".join("".join(c if c.isprintable() else " " for c in hidden).split())
        shown = line if len(line) <= MESSAGE_CHARS else f"{line[:MESSAGE_CHARS]}…"
        return html.escape(shown, quote=False)


class HttpChat:
    """A ChatModel behind an endpoint."""

    def __init__(self, endpoint: HttpEndpoint, model: str) -> None:
        self._endpoint, self._model = endpoint, model

    @property
    def prefill(self) -> bool:
        return self._endpoint.entry.prefill != "no"

    @property
    def slots(self) -> asyncio.Semaphore:
        """Shared by all models of the endpoint."""
        return self._endpoint.slots

    async def reply(self, call: ChatCall) -> Reply:
        if call.continues and not self.prefill:
            raise Permanent(
                f"endpoint {self._endpoint.name} doesn't declare prefill: call {call.key} must end with a user message"
            )
        return await self._endpoint.complete(call, self._body(call))

    def _body(self, call: ChatCall) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in call.messages],
            "temperature": call.temperature,
            "top_p": call.top_p,
            self._endpoint.entry.max_tokens_name: call.max_tokens,
            "seed": call.seed,
        }
        for name in self._endpoint.entry.omit:
            del body[name]
        if call.stop:
            body["stop"] = list(call.stop)
        if call.continues and self._endpoint.entry.prefill == "vllm":
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        return body


def _proxy(entry: Endpoint) -> str | None:
    """The proxy of the environment for this endpoint. A netrc file is not read: keys come from TENFOLD_SECRETS."""
    if proxy_bypass(entry.base_url.host or ""):
        return None
    return getproxies().get(entry.base_url.scheme)
