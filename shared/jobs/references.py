"""References: how Params name their inputs. Never a raw path.

    file:<sha256>              an uploaded file
    job:<id>/<artifact>        another job's artifact; `job:<id>` alone where the field takes the whole job
    hub:<org>/<name>           a Hugging Face model, from the local cache or TENFOLD_MODELS
    builtin:<name>             what Tenfold ships or builds itself
    endpoint:<name>/<model>    an entry of the operator's TENFOLD_ENDPOINTS file
    allowed:<name>             an entry of the red-team list
    secret:<name>              a file in TENFOLD_SECRETS, read by workers only

A Params field declares which schemes it takes: `model: Annotated[Ref, Schemes("hub", "job")]`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
SHAPES = {
    "file": re.compile(r"file:[0-9a-f]{64}\Z"),
    "job": re.compile(rf"job:[0-9A-HJKMNP-TV-Z]{{26}}(/{NAME})?\Z"),
    "hub": re.compile(rf"hub:{NAME}/{NAME}\Z"),
    "builtin": re.compile(rf"builtin:{NAME}\Z"),
    "endpoint": re.compile(rf"endpoint:{NAME}/[A-Za-z0-9][A-Za-z0-9._:/@-]{{0,199}}\Z"),
    "allowed": re.compile(rf"allowed:{NAME}\Z"),
    "secret": re.compile(rf"secret:{NAME}\Z"),
}
EXAMPLES = {
    "file": "file:<sha256>",
    "job": "job:<id>/<artifact>",
    "hub": "hub:<org>/<name>",
    "builtin": "builtin:<name>",
    "endpoint": "endpoint:<name>/<model>",
    "allowed": "allowed:<name>",
    "secret": "secret:<name>",
}


class Ref(str):
    """A well-formed reference. A plain string to JSON; its parts are read here."""

    @property
    def scheme(self) -> str:
        return self.partition(":")[0]

    @property
    def target(self) -> str:
        """What follows the scheme: a digest, `<id>/<artifact>`, a name."""
        return self.partition(":")[2]

    @property
    def job_id(self) -> str | None:
        return self.target.partition("/")[0] if self.scheme == "job" else None

    @property
    def artifact(self) -> str | None:
        """The artifact's name in `job:<id>/<artifact>`; None for a whole job."""
        return (self.target.partition("/")[2] or None) if self.scheme == "job" else None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _schema(tuple(SHAPES))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return _json_schema(tuple(SHAPES))


@dataclass(frozen=True)
class Schemes:
    """Which schemes a field takes; used as `Annotated[Ref, Schemes("file", "job")]`."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        unknown = set(names) - set(SHAPES)
        if unknown:
            raise ValueError(f"unknown reference schemes {sorted(unknown)}")
        object.__setattr__(self, "names", names)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _schema(self.names)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return _json_schema(self.names)


def references_in(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Ref]]:
    """Every reference in validated Params, with the path of its field."""
    if isinstance(value, Ref):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from references_in(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from references_in(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from references_in(item, (*path, index))


def _schema(names: tuple[str, ...]) -> CoreSchema:
    def parse(text: str) -> Ref:
        if not any(SHAPES[name].match(text) for name in names):
            accepted = ", ".join(EXAMPLES[name] for name in names)
            raise PydanticCustomError(
                "reference",
                "{text} is not a reference this field takes; accepted: {accepted}",
                {"text": text[:200], "accepted": accepted},
            )
        return Ref(text)

    return core_schema.no_info_after_validator_function(
        parse,
        core_schema.str_schema(max_length=400, strict=True),
        serialization=core_schema.to_string_ser_schema(),
    )


def _json_schema(names: tuple[str, ...]) -> dict[str, Any]:
    accepted = "|".join(SHAPES[name].pattern.replace(r"\Z", "") for name in names)
    return {"type": "string", "maxLength": 400, "pattern": f"^({accepted})$", "format": "tenfold-reference"}
