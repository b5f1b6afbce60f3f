"""One `JobSpec` per kind: what it takes, what it gives, where it runs.

A method's kinds are declared in `shared/jobs/catalog/<method>.py`; each module lists its specs in `KINDS`. From the
models come the HTTP schema, the command line's help and the console's form, so every field carries a description.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_INTEGER = 2**53 - 1  # what every JSON reader keeps exactly


def _clean_text(text: str) -> str:
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("text must not hold NUL or lone surrogates")
    return text


Text = Annotated[str, AfterValidator(_clean_text)]
"""Any text a person types: no NUL, no lone surrogate."""

Seed = Annotated[int, Field(ge=0, le=2**32 - 1, description="Drives every random generator of the job.")]


class Params(BaseModel):
    """The input of a kind. Frozen; unknown fields are refused; integers are never read from text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, use_attribute_docstrings=True
    )


class Result(BaseModel):
    """The output of a kind, at most 64 KiB as JSON. An undefined number is None, never NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


@dataclass(frozen=True)
class JobSpec:
    """The declaration of one kind."""

    kind: str  # "<method>.<verb>", the Celery task's name too
    params: type[Params]
    result: type[Result]
    pool: str  # cpu | gpu | sim, or a pool of an outside package's own
    summary: str  # one sentence, shown in listings
    progress_unit: str  # what `ctx.progress` counts
    version: int = 1  # of the checkpoint and result format
    entry: str | None = None  # "module:function"; by default workers.<method>.jobs:<verb>
    scope: str | None = None  # an extra scope that submitting needs
    measured: tuple[str, ...] = ()  # result fields and artifacts that are measurements: not equal between runs
    attacks: bool = False  # runs against a model of the red-team list: one unfinished job per owner
    sealed: tuple[str, ...] = ()  # artifacts that hold text kept back: encrypted, 30 days
    checkpoint_grain: str = ""  # how much work a kill may repeat, in words

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", self.kind):
            raise ValueError(f"kind {self.kind!r} is not of the form method.verb")
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", self.pool):
            raise ValueError(f"pool {self.pool!r} of {self.kind} must be a short lower-case word")

    @property
    def method(self) -> str:
        return self.kind.partition(".")[0]

    @property
    def entry_point(self) -> str:
        """Where the entry function lives, as `module:function`."""
        method, _, verb = self.kind.partition(".")
        return self.entry or f"workers.{method}.jobs:{verb}"

    def params_schema(self) -> dict[str, Any]:
        return self.params.model_json_schema()

    def result_schema(self) -> dict[str, Any]:
        return self.result.model_json_schema(mode="serialization")
