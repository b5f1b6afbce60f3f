"""Reading requests strictly: JSON bodies, query strings, sizes.

JSON numbers stay within what every reader keeps exactly (±2⁵³); NaN, NUL and lone surrogates are refused. Pydantic then
validates in strict mode: "5" is not 5.
"""

import json
from typing import Any, NoReturn, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError

from services.gateway.problems import Problem, field_errors
from shared.jobs.errors import BadRequest, FieldError
from shared.jobs.spec import MAX_INTEGER

M = TypeVar("M", bound=BaseModel)
DRAIN_BYTES = 16 * 2**20


def read_body(limit: int) -> bytes:
    """The body of a JSON call. Raises Problem 413, 415."""
    refuse_oversize(limit)
    if request.mimetype != "application/json":
        raise Problem("unsupported_media_type", "send the body as application/json")
    data = request.stream.read(limit + 1)
    if len(data) > limit:
        raise _too_large(limit)
    return data


def refuse_oversize(limit: int) -> None:
    """413 for a body announced as larger, drained first (up to 16 MiB) so that the client can read the answer."""
    announced = request.content_length
    if announced is None or announced <= limit:
        return
    left = min(announced, DRAIN_BYTES)
    while left > 0:
        chunk = request.stream.read(min(left, 1 << 16))
        if not chunk:
            break
        left -= len(chunk)
    raise _too_large(limit)


def parse_json(data: bytes) -> Any:
    """The JSON value. Raises Problem 400 for what is not JSON, BadRequest for numbers and text out of bounds."""
    try:
        value = json.loads(data, parse_int=_integer, parse_float=_number, parse_constant=_no_constant)
    except (UnicodeDecodeError, RecursionError) as error:
        raise Problem("malformed", f"the body is not JSON: {error}") from None
    except json.JSONDecodeError as error:
        raise Problem("malformed", f"the body is not JSON: {error.msg} at position {error.pos}") from None
    if b"\\u" in data:
        _refuse_odd_text(value, ("body",))
    return value


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises BadRequest for another value."""
    value = parse_json(data)
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object", [FieldError(("body",), "expected an object", "object")])
    return value


def validate(model: type[M], data: bytes) -> M:
    """The model, from JSON text. Raises BadRequest naming each bad field."""
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise BadRequest("the body does not fit the schema", field_errors(error, ("body",))) from None


def validate_query(model: type[M]) -> M:
    """The query string as a model. Raises BadRequest; a parameter given twice is refused unless it is a list."""
    values: dict[str, Any] = {}
    for name, given in request.args.lists():
        field = model.model_fields.get(name)
        if field is not None and _is_list(field.annotation):
            values[name] = given
        elif len(given) > 1:
            raise BadRequest(
                "a query parameter is given twice", [FieldError(("query", name), "given twice", "repeated")]
            )
        else:
            values[name] = given[0]
    _refuse_odd_text(values, ("query",))
    try:
        return model.model_validate(values, strict=False)  # the strings mode knows no lists
    except ValidationError as error:
        raise BadRequest("the query does not fit the schema", field_errors(error, ("query",))) from None


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) in (list, tuple)


def _too_large(limit: int) -> Problem:
    return Problem("too_large", f"the body is larger than {limit} bytes", headers={"Connection": "close"})


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER + 1:
        raise BadRequest(
            f"{text[:40]} is outside ±2^53", [FieldError(("body",), "an integer is outside ±2^53", "integer_range")]
        )
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise BadRequest(
            f"{text[:40]} is too large a number", [FieldError(("body",), "a number is too large", "finite_number")]
        )
    return value


def _no_constant(text: str) -> NoReturn:
    raise Problem("malformed", f"the body is not JSON: {text} is not a JSON value")


def _refuse_odd_text(value: Any, path: tuple[str | int, ...]) -> None:
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
            shown = tuple(_printable(part) for part in path)
            raise BadRequest(
                "text must not hold NUL or lone surrogates", [FieldError(shown, "NUL or surrogate", "text")]
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_odd_text(key, (*path, key))
            _refuse_odd_text(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_odd_text(item, (*path, index))


def _printable(part: str | int) -> str | int:
    return part.encode("ascii", "backslashreplace").decode() if isinstance(part, str) else part
