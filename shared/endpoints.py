"""The operator's file of HTTP endpoints (TENFOLD_ENDPOINTS): where models and translators are reached, and how hard.

    {"lab": {"base_url": "https://llm.example.org/v1", "secret": "lab-key", "max_in_flight": 32,
             "requests_per_minute": 600}}

Limits hold for each job by itself. A secret is named here and read by workers only, from a file of TENFOLD_SECRETS.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter, UrlConstraints, ValidationError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
Prefill = Literal["no", "trailing", "vllm"]


class EndpointsError(Exception):
    """The file can't be used; says why, and never what it holds: an operator may have put a key there."""


class Endpoint(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    base_url: Annotated[HttpUrl, UrlConstraints(max_length=2000)]
    """Where the API begins: `/chat/completions` is put after it."""
    secret: str | None = Field(None, pattern=NAME)
    """A file of TENFOLD_SECRETS with the key, sent as `Authorization: Bearer`."""
    protocol: Literal["openai", "libretranslate", "deepl"] = "openai"
    max_in_flight: int = Field(8, ge=1, le=4096)
    """Requests at once, per job."""
    requests_per_minute: float | None = Field(None, gt=0)
    """Per job, repeated requests included."""
    timeout_s: float = Field(120.0, gt=0)
    """How long one request may take."""
    tries: int = Field(8, ge=1)
    """Requests per call, until the job fails for now."""
    retry_budget_s: float = Field(180.0, ge=0)
    """How long one call may wait between its requests, in all."""
    prefill: Prefill = "no"
    """Whether the server goes on from a last message of the assistant: `trailing` by itself (many hosted APIs),
    `vllm` when told by `continue_final_message`."""

    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the longest reply."""
    omit: frozenset[Literal["seed", "temperature", "top_p"]] = frozenset()
    """What the server refuses to be told; replies are then drawn as it likes."""

    @property
    def url(self) -> str:
        return str(self.base_url).rstrip("/")


_FILE = TypeAdapter(dict[Annotated[str, Field(pattern=NAME)], Endpoint])


def read_endpoints(file: Path | None) -> Mapping[str, Endpoint]:
    """Every entry by name; none without a file. Raises EndpointsError."""
    if file is None:
        return {}
    try:
        entries = _FILE.validate_python(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise EndpointsError(f"TENFOLD_ENDPOINTS ({file.name}) can't be read: {_why(error)}") from None
    for name, entry in entries.items():
        if entry.base_url.username or entry.base_url.password:
            raise EndpointsError(f"TENFOLD_ENDPOINTS: base_url of {name} holds credentials: name a secret instead")
    return dict(sorted(entries.items()))


def find_endpoint(entries: Mapping[str, Endpoint], name: str) -> Endpoint:
    """The entry of that name. Raises EndpointsError with the names there are."""
    if name not in entries:
        raise EndpointsError(f"there is no endpoint {name}; TENFOLD_ENDPOINTS has: {', '.join(entries) or 'none'}")
    return entries[name]


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"not JSON ({error})"
